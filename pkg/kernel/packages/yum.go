package packages

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/text"
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
	case s.Since(noteYumAt) > yumTimeout:
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
	lines := strings.Split(strings.TrimSpace(text.Printable(string(res.Stdout))), "\n")
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
