package boot

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// trialFile is the node's own record of the trial that was asked for last, until its
// kernel is proven. Whoever comes after a run that was cut off has no other way to know
// how the node was before.
const trialFile = "/var/lib/fleetd/trial"

// unproven is the trial whose boot this still is and that nobody has ended: its kernel
// runs, is not the default, and was not held against the one before.
func unproven(f node.Facts, release string) (node.Trial, bool) {
	t := f.Trial
	return t, t.Run != "" && t.To == release && f.Running == release && f.Boot.DefaultRelease() != release &&
		slices.Contains(strings.Fields(f.Cmdline), node.TrialArg+t.Run)
}

const recordScript = `set -e
umask 022
mkdir -p "${record%/*}"
printf '%s\n' "$text" >"$record.new"
mv -f "$record.new" "$record"
sync -f "$record" 2>/dev/null || sync`

// record keeps a trial in mind on the node.
func (l Loader) record(t node.Trial) error {
	res, err := l.remote.Run(l.ctx, l.step.Host, sshexec.Command{
		Script: recordScript, Become: l.step.Become, Timeout: 2 * time.Minute,
		Env: map[string]string{"LC_ALL": "C", "record": trialFile, "text": t.String()},
	})
	if err == nil && !res.OK() {
		err = fmt.Errorf("cannot write %s on %s: %s", trialFile, l.step.Host, res.Said())
	}
	return err
}

// forget removes the record of a trial that has ended.
func (l Loader) forget() error {
	res, err := l.run("rm", "-f", "--", trialFile)
	if err == nil && !res.OK() {
		err = fmt.Errorf("cannot remove %s on %s: %s", trialFile, l.step.Host, res.Said())
	}
	return err
}
