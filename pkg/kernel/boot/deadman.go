package boot

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// The dead-man switch brings back a node that boots the kernel on trial and that
// nobody can log in to: no network, no sshd, emergency.target, a boot that hangs.
// It is a unit of systemd that is there from before the trial until fleetd has
// logged in after it, and works on a boot of this very trial only.
const (
	unitDir  = "/etc/systemd/system"
	unitFile = unitDir + "/" + unitName
	unitName = "fleetd-trial.service"
)

// deadManUnit waits on nothing and for nothing: without default dependencies it
// is started before local file systems are mounted, is left alone when systemd
// goes to emergency.target, and works on through a shutdown that hangs. What it
// does last needs neither systemd nor a disk. What it says
// is urgent enough for a console that is told to be quiet. Its first line is the
// trial's, for the facts.
func deadManUnit(run string, after time.Duration) string {
	return fmt.Sprintf(`# %[1]s%[2]s
[Unit]
Description=Reboot into the default kernel unless fleetd logs in
DefaultDependencies=no
IgnoreOnIsolate=yes
ConditionKernelCommandLine=%[1]s%[2]s

[Service]
StandardInput=null
StandardOutput=null
StandardError=null
OOMScoreAdjust=-1000
ExecStart=/bin/sh -c 'sleep %[3]d; echo "<2>fleetd: nobody has logged in for %[3]d s, rebooting into the default kernel" >/dev/kmsg; systemctl --no-block --job-mode=replace-irreversibly start reboot.target; sleep 90; systemctl --force --force reboot & sleep 30; echo b >/proc/sysrq-trigger'
`, node.TrialArg, run, int(after.Seconds()))
}

// armScript ends with what systemd makes of the unit. emergency.target wants it
// as well, because a boot may be told to go nowhere else. At the unit's end stands
// what the kernel does by itself when it is stuck, before the trial's arguments.
const armScript = `set -e
umask 022
{
	printf %s "$unit"
	for s in panic panic_on_oops softlockup_panic hung_task_panic hardlockup_panic; do
		s=$proc/sys/kernel/$s
		[ ! -r "$s" ] || echo "# was $s $(cat "$s")"
	done
} >"$dir/$name.new"
mv -f "$dir/$name.new" "$dir/$name"
for target in sysinit emergency; do
	mkdir -p "$dir/$target.target.wants"
	ln -sf "../$name" "$dir/$target.target.wants/$name"
done
sync -f "$dir/$name" 2>/dev/null || sync
systemctl daemon-reload
systemctl show -p LoadState "$name"
systemctl show -p Wants sysinit.target
systemctl show -p Wants emergency.target`

// arm puts the dead-man switch in place for the trial that is asked for from the
// boot run, and reads back what systemd knows of it.
func (l Loader) arm(run string, after time.Duration) error {
	res, err := l.unit(armScript, map[string]string{"unit": deadManUnit(run, after)})
	if err != nil {
		return err
	}
	wanted := 0
	for _, line := range strings.Split(string(res.Stdout), "\n") {
		if wants, found := strings.CutPrefix(line, "Wants="); found && slices.Contains(strings.Fields(wants), unitName) {
			wanted++
		}
	}
	if loaded := strings.Contains(string(res.Stdout), "LoadState=loaded\n"); !res.OK() || !loaded || wanted != 2 {
		return &rollout.Problem{
			Message: fmt.Sprintf("cannot arm the dead-man switch of %s: systemd does not take %s: %s", l.step.Host, unitFile, res.Said()),
			Hint:    fmt.Sprintf("on %s: systemctl status %s; is /etc full or read-only?", l.step.Host, unitName),
		}
	}
	return nil
}

// disarmScript leaves a switch alone that has gone off: it also sees to it that
// the node goes down. On the boot of the trial the kernel is told to do again what
// the one before did: a node at work is not to panic because a task of it hangs.
const disarmScript = `state() { systemctl show -p ActiveState "$name"; }
before=$(state)
gone_off() { [ "$before" = ActiveState=active ] && [ "$(systemctl is-system-running)" = stopping ]; }
gone_off && { echo "gone off"; exit; }
systemctl stop "$name"
if [ -e "$dir/$name" ]; then
	echo there
	read -r mark run <"$dir/$name"
	case " $(cat "$proc/cmdline") " in
	*" $run "*)
		while read -r mark was s value; do
			[ "$mark $was" != "# was" ] || echo "$value" >"$s" || echo "stays $s"
		done <"$dir/$name" ;;
	esac
fi
rm -f "$dir/sysinit.target.wants/$name" "$dir/emergency.target.wants/$name" "$dir/$name"
systemctl daemon-reload
state
gone_off && echo "gone off"
[ ! -e "$dir/$name" ] || echo stays`

// stillArmed is why a node may yet be rebooted by its dead-man switch.
type stillArmed struct {
	error
	// goneOff: it is being rebooted.
	goneOff bool
}

func (a stillArmed) Unwrap() error { return a.error }

// disarm takes the dead-man switch away, if there is one, and reads back that it
// is gone. there tells that there was one.
func (l Loader) disarm() (there bool, err error) {
	res, err := l.unit(disarmScript, nil)
	if err != nil {
		return false, err
	}
	lines := strings.Split(string(res.Stdout), "\n")
	has := func(line string) bool { return slices.Contains(lines, line) }
	switch {
	case has("gone off"):
		return true, stillArmed{fmt.Errorf("%s is being rebooted by its dead-man switch, which nobody has disarmed in time", l.step.Host), true}
	case slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "stays") }), !has("ActiveState=inactive") && !has("ActiveState=failed"):
		return true, stillArmed{&rollout.Problem{
			Message: fmt.Sprintf("cannot disarm the dead-man switch of %s: %s is still there: %s", l.step.Host, unitName, res.Said()),
			Hint:    fmt.Sprintf("on %[1]s: systemctl stop %[2]s; rm %[3]s", l.step.Host, unitName, unitFile),
		}, false}
	}
	return has("there"), nil
}

func (l Loader) unit(script string, env map[string]string) (sshexec.Result, error) {
	c := sshexec.Command{Script: script, Become: l.step.Become, Timeout: 2 * time.Minute, Env: map[string]string{"LC_ALL": "C", "dir": unitDir, "name": unitName, "proc": "/proc"}}
	for k, v := range env {
		c.Env[k] = v
	}
	return l.remote.Run(l.ctx, l.step.Host, c)
}
