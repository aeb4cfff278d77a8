package kernel

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// lockPatience is how long another yum may take before the step gives up.
const lockPatience = 10 * time.Minute

// waitForLock asks for the step to be called again while another yum works:
// EL7's yum would wait for the lock for ever.
func waitForLock(s rollout.Step, f node.Facts) (rollout.Outcome, bool) {
	holder := f.Yum.LockHolder
	if holder == "" {
		return rollout.Outcome{}, true
	}
	if s.Elapsed > lockPatience {
		return rollout.Fail(&rollout.Problem{
			Message: fmt.Sprintf("cannot install packages on %s: %s has held yum's lock for %v", s.Host, holder, lockPatience),
			Hint:    "look what it does (ps), and stop it: systemctl stop packagekit, or yum-cron, or dnf-automatic",
		}), false
	}
	return rollout.RetryAfter(10*time.Second, fmt.Errorf("%s holds yum's lock on %s", holder, s.Host)), false
}

// transaction is an install of a kernel by yum, as it was planned.
type transaction struct {
	Package node.Package `json:"package"`
	Repo    string       `json:"repo,omitempty"`
	// With are the packages that are kept in step with it (stepSuffixes).
	With []string `json:"with,omitempty"`
	// Changes are all that yum would do; none = not known.
	Changes []node.PackageChange `json:"transaction,omitempty"`
}

// bind is the transaction that installs a package on a node.
func bind(f node.Facts, w Wanted, p node.Package) transaction {
	changes := f.Transactions[w.key()]
	return transaction{p, w.Repo, inStep(f, p, changes), changes}
}

// args are yum's, for one repository that may be disabled and all that are not. The
// plan asks the same (would_install in pkg/node/facts.sh). Where the packages are
// staged, they are taken from there, with the metadata that was staged with them, and
// the network is left alone.
func (t transaction) args(staged bool, how ...string) []string {
	var args []string
	if staged {
		args = []string{"-C", "--setopt=cachedir=" + node.StageDir}
	}
	args = append(append(args, "--enablerepo="+t.Repo, "install"), how...)
	return append(append(args, t.Package.NEVRA()), t.With...)
}

// isStaged tells that the package waits on the node for its install.
func (t transaction) isStaged(f node.Facts) bool {
	return f.Staged.Package == withoutEpoch(t.Package).NEVRA() && strings.HasSuffix(f.Staged.Question, "@"+t.Repo)
}

// ready looks whether yum could do it now, and would do the same.
func (t transaction) ready(ctx context.Context, r node.Remote, s rollout.Step, f node.Facts) (rollout.Outcome, bool) {
	if out, free := waitForLock(s, f); !free {
		return out, false
	}
	staged := t.isStaged(f)
	var err error
	if !staged {
		err = t.offered(ctx, r, s, f)
	}
	if err == nil {
		_, _, err = t.would(ctx, r, s, staged)
	}
	if err != nil {
		return rollout.Fail(err), false
	}
	return rollout.Outcome{}, true
}

// offered asks the repository once more for the planned package: ELRepo keeps only the
// newest version, so the one of last week's plan may be gone.
func (t transaction) offered(ctx context.Context, r node.Remote, s rollout.Step, f node.Facts) error {
	repo, p := t.Repo, t.Package
	res, err := run(ctx, r, s, 3*time.Minute, "yum", "--disablerepo=*", "--enablerepo="+repo,
		"--setopt="+repo+".skip_if_unavailable=0", "--setopt="+repo+".metadata_expire=60",
		"list", "available", "--showduplicates", p.Name)
	if err != nil {
		return fmt.Errorf("cannot ask repository %s on %s: %w", repo, s.Host, err)
	}
	offered, why := node.ParseAvailable(string(res.Stdout)+string(res.Stderr), res.ExitStatus, p.Name, repo)
	if why != "" {
		f.RepoErrors = map[string]string{repo: why}
	}
	f.Available = map[string][]node.Package{p.Name + "@" + repo: offered}
	_, err = Choose(s.Host, f, Wanted{Name: p.Name, Repo: repo, Version: p.EVR})
	var problem *rollout.Problem
	if errors.As(err, &problem) && why == "" {
		problem.Hint = "make a new plan: fleetd plan"
	}
	return err
}

// stepSuffixes are the packages of a kernel that are kept in step with it where they
// are installed, and never pulled in: kernel-ml-headers replaces the distribution's.
var stepSuffixes = []string{"-devel", "-headers", "-tools", "-tools-libs"}

// inStep are those of them that the node has in another version, in that of p, as far
// as the transaction, if it is known, has them.
func inStep(f node.Facts, p node.Package, transaction []node.PackageChange) (with []string) {
	for _, q := range f.Installed {
		if suffix, ours := strings.CutPrefix(q.Name, p.Name); !ours || !slices.Contains(stepSuffixes, suffix) {
			continue
		}
		q.EVR = p.EVR
		planned := transaction == nil || slices.ContainsFunc(transaction, func(c node.PackageChange) bool { return c.Package == q })
		if planned && !slices.Contains(f.Installed, q) && !slices.Contains(with, q.NEVRA()) {
			with = append(with, q.NEVRA())
		}
	}
	return with
}

// would asks yum once more what it would do, of exactly what it will be told to do:
// once a node is drained, an install that fails costs an outage, and what was not
// reviewed is not installed. size is what it would download, in bytes.
func (t transaction) would(ctx context.Context, r node.Remote, s rollout.Step, staged bool) (would []node.PackageChange, size int64, err error) {
	res, err := run(ctx, r, s, 3*time.Minute, append([]string{"yum"}, t.args(staged, "--assumeno")...)...)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot ask yum on %s: %w", s.Host, err)
	}
	text := string(res.Stdout) + string(res.Stderr)
	would, why := node.WouldInstall(text, res.ExitStatus)
	if why != "" {
		return nil, 0, wouldNot(s.Host, t.Repo, t.Package, why)
	}
	if t.Changes != nil && !slices.Equal(t.Changes, would) {
		return nil, 0, &rollout.Problem{
			Message: fmt.Sprintf("cannot install %s on %s: yum would do something else by now than was planned: %s; was planned: %s", t.Package.NEVRA(), s.Host, listed(would), listed(t.Changes)),
			Hint:    "make a new plan: fleetd plan",
		}
	}
	return would, node.DownloadSize(text), nil
}

func listed(changes []node.PackageChange) string {
	var out []string
	for _, c := range changes {
		out = append(out, c.Action+" "+c.NEVRA())
	}
	return strings.Join(out, ", ")
}

// fields are what a person reads of it.
func (t transaction) fields(f node.Facts) []rollout.Field {
	fields := []rollout.Field{{Name: "package", After: t.Package.NEVRA()}}
	for _, c := range t.Changes {
		switch {
		case c.Action == "remove":
			fields = append(fields, rollout.Field{Name: "package that yum removes", Before: c.NEVRA()})
		case c.Package != t.Package:
			was := ""
			for _, q := range f.Installed {
				if c.Action == "upgrade" && q.Name == c.Name && q.Arch == c.Arch {
					was = q.NEVRA()
				}
			}
			fields = append(fields, rollout.Field{Name: "package that yum " + c.Action + "s with it", Before: was, After: c.NEVRA()})
		}
	}
	return fields
}

// installed asks rpm whether the package is there, and what is kept in step with it.
func (t transaction) installed(ctx context.Context, r node.Remote, s rollout.Step) (bool, error) {
	res, err := run(ctx, r, s, time.Minute, append([]string{"rpm", "-q", t.Package.NEVRA()}, t.With...)...)
	if err != nil {
		return false, err
	}
	// rpm prints what it found, "package … is not installed" for what it did not.
	return res.OK() && slices.Contains(strings.Fields(string(res.Stdout)), withoutEpoch(t.Package).NEVRA()), nil
}

// withoutEpoch is the package as rpm -q prints it.
func withoutEpoch(p node.Package) node.Package {
	if _, vr, found := strings.Cut(p.EVR, ":"); found {
		p.EVR = vr
	}
	return p
}

// The notes of a transaction: its name, and when it was intended.
const (
	noteYum   = "yum"
	noteYumAt = "yum_at"
)

// intendYum gives the transaction that the next calls start and look at a name
// that no other has: by it they know on the node whether it was begun.
func intendYum(s rollout.Step) rollout.Outcome {
	return rollout.Intend(noteYum, rand.Text()).Note(noteYumAt, s.Now.String())
}

// yum starts the intended transaction unless it was begun, and tells how it
// ended. over is false while it works, or when the step ends here.
//
// It is out of fleetd's reach: its output goes to a file on the node and not to
// the connection, whose loss would end it by SIGPIPE, and it is in a session of
// its own, so that an abandoned step, whose commands are killed, does not kill
// it. yum killed in a transaction leaves half a kernel.
func yum(ctx context.Context, r node.Remote, s rollout.Step, args ...string) (ended string, out rollout.Outcome, over bool) {
	res, err := r.Run(ctx, s.Host, sshexec.Command{
		Script: yumScript(args...),
		Env:    map[string]string{"LC_ALL": "C", "fleetd_yum": s.SoFar[noteYum], "dir": yumDir},
		Become: s.Become, Timeout: time.Minute,
	})
	if err != nil {
		return "", rollout.Fail(err), false
	}
	word, status, _ := strings.Cut(strings.TrimSpace(string(res.Stdout)), " ")
	switch {
	case !res.OK():
		return "", rollout.Fail(fmt.Errorf("cannot start yum on %s: %s", s.Host, res.Said())), false
	case word == "ended":
		return "exit status " + status, rollout.Outcome{}, true
	case word == "gone":
		return "no exit status: it was killed", rollout.Outcome{}, true
	case since(s, noteYumAt) > yumTimeout:
		return "", rollout.Fail(&rollout.Problem{
			Message: fmt.Sprintf("cannot see the end of yum on %s: it has worked for %v", s.Host, yumTimeout),
			Hint:    fmt.Sprintf("on %s: tail %s; ps -ef | grep yum. Let it end, then apply again", s.Host, yumLog),
		}), false
	case word == "busy":
		return "", rollout.WaitFor(yumPoll, "a yum of an earlier step works on %s", s.Host), false
	}
	return "", rollout.WaitFor(yumPoll, "yum works on %s", s.Host), false
}

const (
	yumDir = "/var/log/fleetd"
	yumLog = yumDir + "/yum.log"
	// yumTimeout covers the download over a slow line and dracut on a slow disk.
	yumTimeout = 40 * time.Minute
	yumPoll    = 5 * time.Second
)

// yumScript starts `yum ARGS`, or says what became of it. Three files tell:
// yum.job has the name of the last transaction and its process, yum.status the
// name and the exit status of the last one that ended, yum.log what it said. A
// process counts only if it has the name in its environment: numbers are used
// again. The name is in yum.job before yum is started, a file is replaced as a
// whole, and the script does not end before the process is in it ($() waits for
// the exec that gives up its output): no look at a wrong moment starts a second
// one.
func yumScript(args ...string) string {
	return `id= pid=
mkdir -p "$dir" || exit
[ ! -s "$dir/yum.job" ] || read -r id pid <"$dir/yum.job"
if [ -n "$pid" ] && grep -qs "fleetd_yum=$id" "/proc/$pid/environ"; then
	[ "$id" = "$fleetd_yum" ] && echo working || echo busy
elif [ "$id" = "$fleetd_yum" ]; then
	ended= status=
	[ ! -s "$dir/yum.status" ] || read -r ended status <"$dir/yum.status"
	[ "$ended" = "$id" ] && echo "ended $status" || echo gone
else
	echo "$fleetd_yum" >"$dir/yum.new" && mv "$dir/yum.new" "$dir/yum.job" || exit
	echo "$(setsid sh -c '
		echo "$fleetd_yum $$" >"$dir/yum.new" && mv "$dir/yum.new" "$dir/yum.job"
		echo started
		exec >"$dir/yum.log" 2>&1
		"$0" "$@"
		echo "$fleetd_yum $?" >"$dir/yum.new" && mv "$dir/yum.new" "$dir/yum.status"' \
		` + node.Typed(append([]string{"yum"}, args...)...) + ` </dev/null &)"
fi`
}

// noteFailed counts the transactions that had no effect.
const noteFailed = "failed"

// yumAgain says what comes of a transaction that had no effect: the next one, or the
// end. What is staged is not trusted again.
func yumAgain(ctx context.Context, r node.Remote, s rollout.Step, repo string, why error, hint string) rollout.Outcome {
	n, _ := strconv.Atoi(s.SoFar[noteFailed])
	if n++; n < 3 {
		// A mirror that hiccups, or metadata older than the mirror.
		_, err := run(ctx, r, s, 2*time.Minute, "yum", "--enablerepo="+repo, "clean", "expire-cache")
		if err == nil && s.SoFar[noteStaged] != "" {
			err = forgetStaged(ctx, r, s)
		}
		if err != nil {
			return rollout.Fail(err)
		}
		return rollout.RetryAfter(10*time.Second, why).Note(noteFailed, strconv.Itoa(n)).Note(noteYum, "").Note(noteStaged, "")
	}
	return rollout.Fail(&rollout.Problem{Message: why.Error(), Hint: hint})
}

// yumSaid is the end of yum's log, for an error message.
func yumSaid(ctx context.Context, r node.Remote, s rollout.Step) string {
	res, err := run(ctx, r, s, time.Minute, "tail", "-n", "20", yumLog)
	if err != nil || !res.OK() {
		return "see " + yumLog + " there"
	}
	lines := strings.Split(strings.TrimSpace(sshexec.Printable(string(res.Stdout))), "\n")
	for _, l := range lines {
		if strings.Contains(l, "rror") {
			return strings.TrimSpace(l)
		}
	}
	return strings.TrimSpace(lines[len(lines)-1])
}

// since is how long ago, by the run's clock, a time was noted.
func since(s rollout.Step, note string) time.Duration {
	at, err := time.ParseDuration(s.SoFar[note])
	if err != nil {
		return s.Elapsed // no note: the step is no older than this
	}
	return s.Now - at
}

// run runs one command with the step's become.
func run(ctx context.Context, r node.Remote, s rollout.Step, timeout time.Duration, argv ...string) (sshexec.Result, error) {
	return r.Run(ctx, s.Host, sshexec.Command{Argv: argv, Env: map[string]string{"LC_ALL": "C"}, Become: s.Become, Timeout: timeout})
}
