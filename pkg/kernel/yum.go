package kernel

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// lockPatience is how long another yum may take before the step gives up.
const lockPatience = 10 * time.Minute

// waitForLock asks for the step to be called again while another yum works.
// EL7's yum would wait for the lock for ever, and after a crash of fleetd the
// other one may be our own of an earlier attempt.
func waitForLock(s rollout.Step, f node.Facts) (rollout.Outcome, bool) {
	holder := f.Yum.LockHolder
	if holder == "" {
		return rollout.Outcome{}, true
	}
	if time.Since(s.First) > lockPatience {
		return rollout.Fail(&rollout.Problem{
			Message: fmt.Sprintf("cannot install packages on %s: %s has held yum's lock for %v", s.Host, holder, lockPatience),
			Hint:    "look what it does (ps), and stop it: systemctl stop packagekit, or yum-cron, or dnf-automatic",
		}), false
	}
	return rollout.RetryAfter(10*time.Second, fmt.Errorf("%s holds yum's lock on %s", holder, s.Host)), false
}

// repositoryHas asks the repository once more for the planned package: ELRepo
// keeps only the newest version, so the one of last week's plan may be gone.
func repositoryHas(ctx context.Context, r node.Remote, s rollout.Step, repo string, p node.Package, f node.Facts) error {
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

// installed asks rpm whether the package is there.
func installed(ctx context.Context, r node.Remote, s rollout.Step, p node.Package) (bool, error) {
	res, err := run(ctx, r, s, time.Minute, "rpm", "-q", p.NEVRA())
	if err != nil {
		return false, err
	}
	// rpm prints what it found, "package … is not installed" for what it did not.
	return res.OK() && slices.Contains(strings.Fields(string(res.Stdout)), withoutEpoch(p).NEVRA()), nil
}

// withoutEpoch is the package as rpm -q prints it.
func withoutEpoch(p node.Package) node.Package {
	if _, vr, found := strings.Cut(p.EVR, ":"); found {
		p.EVR = vr
	}
	return p
}

// yum runs a transaction, out of fleetd's reach: its output goes to a file on
// the node and not to the connection, whose loss would end it by SIGPIPE, and it
// is in a session of its own, so that an abandoned step, whose commands are
// killed, does not kill it. yum killed in a transaction leaves half a kernel.
// A later attempt finds it by the lock that it holds.
func yum(ctx context.Context, r node.Remote, s rollout.Step, args ...string) (sshexec.Result, error) {
	return r.Run(ctx, s.Host, sshexec.Command{Script: yumScript(yumLog, args...), Env: map[string]string{"LC_ALL": "C"}, Become: s.Become, Timeout: yumTimeout})
}

// yumScript waits with the shell's wait: EL7's setsid cannot.
func yumScript(log string, args ...string) string {
	return fmt.Sprintf("mkdir -p %s && { setsid %s </dev/null >%s 2>&1 & wait $!; }", path.Dir(log), node.Typed(append([]string{"yum"}, args...)...), log)
}

const (
	yumLog = "/var/log/fleetd/yum.log"
	// yumTimeout covers the download over a slow line and dracut on a slow disk.
	yumTimeout = 40 * time.Minute
)

// yumSaid is the end of yum's log, for an error message.
func yumSaid(ctx context.Context, r node.Remote, s rollout.Step) string {
	res, err := run(ctx, r, s, time.Minute, "tail", "-n", "20", yumLog)
	if err != nil || !res.OK() {
		return "see " + yumLog + " there"
	}
	lines := strings.Split(strings.TrimSpace(string(res.Stdout)), "\n")
	for _, l := range lines {
		if strings.Contains(l, "rror") {
			return strings.TrimSpace(l)
		}
	}
	return strings.TrimSpace(lines[len(lines)-1])
}

// run runs one command with the step's become.
func run(ctx context.Context, r node.Remote, s rollout.Step, timeout time.Duration, argv ...string) (sshexec.Result, error) {
	return r.Run(ctx, s.Host, sshexec.Command{Argv: argv, Env: map[string]string{"LC_ALL": "C"}, Become: s.Become, Timeout: timeout})
}

// said is what a command that failed had to say, on one line.
func said(res sshexec.Result) string {
	text := strings.TrimSpace(string(res.Stderr))
	if text == "" {
		text = strings.TrimSpace(string(res.Stdout))
	}
	first, _, _ := strings.Cut(text, "\n")
	if first == "" {
		return fmt.Sprintf("exit status %d", res.ExitStatus)
	}
	return fmt.Sprintf("exit status %d: %s", res.ExitStatus, first)
}
