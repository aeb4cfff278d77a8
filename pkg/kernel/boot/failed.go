package boot

import (
	"fmt"
	"time"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// failedFile is the node's own record of kernels that failed a trial on it, in
// lines "RELEASE RUN TIME". The bastion may be another one next time, and its
// journal with it.
const failedFile = "/var/lib/fleetd/failed-trials"

// FailedBefore refuses a kernel that came to no good end on this node: each trial
// takes it out of service for as long as it takes to come back.
func FailedBefore(f node.Facts, release string, retry bool) (wrong, hint string) {
	at, failed := f.FailedTrials[release]
	if !failed || retry || f.Running == release {
		return "", ""
	}
	return fmt.Sprintf("%s failed its trial there at %s, and the node came back on another kernel", release, at),
		"find out why, or choose another kernel_version; to try it again: -e retry_failed_kernels=true (retry_failed: true of the tasks fleetd.kernel.*)"
}

// failedScript keeps one line for each trial, however often it is told, and
// replaces the file as a whole. Without a run it forgets the release.
const failedScript = `set -e
umask 022
mkdir -p "${failed%/*}"
touch "$failed"
if [ -n "$run" ]; then
	grep -qF " $run " "$failed" && exit
	{ cat "$failed"; echo "$release $run $(date -u +%Y-%m-%dT%H:%M:%SZ)"; } >"$failed.new"
else
	awk -v release="$release" '$1 "" != release' "$failed" >"$failed.new"
fi
mv -f "$failed.new" "$failed"`

// recordFailed keeps in mind that a kernel failed the trial that was asked for from
// the boot run; with no run, that it passed.
func (l Loader) recordFailed(release, run string) error {
	res, err := l.remote.Run(l.ctx, l.step.Host, sshexec.Command{
		Script: failedScript, Become: l.step.Become, Timeout: 2 * time.Minute,
		Env: map[string]string{"LC_ALL": "C", "failed": failedFile, "release": release, "run": run},
	})
	if err == nil && !res.OK() {
		err = fmt.Errorf("cannot write %s on %s: %s", failedFile, l.step.Host, res.Said())
	}
	return err
}
