package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// journey is one reboot from one kernel into another.
type journey struct {
	from, to string
	timeout  time.Duration
	// trial sets the trial's arguments and makes from the default to fall back to.
	trial bool
	// key is the checkpoint that holds the boot_id from before the reboot.
	key string
}

// bootInto takes the node from one kernel into the other with at most one
// reboot, however often it is called for one step.
//
// The boot_id is stored before the reboot is asked for. A call that finds it
// stored asks the node first: with another boot_id the reboot is behind us and
// only its result is to be judged; with the same one it is asked for again, by
// a command that does nothing on any other boot; with no answer it is waited for.
func bootInto(ctx context.Context, r node.Remote, s rollout.Step, j journey) rollout.Outcome {
	l := loader{ctx, r, s}
	if before := s.Checkpoints[j.key]; before != "" {
		now, err := bootID(ctx, r, s.Host)
		switch {
		case err != nil:
			// On its way down, or up, or gone: the wait finds out which.
			return j.await(l, before)
		case now != before:
			return j.judge(l)
		}
	}
	f, err := node.Gather(ctx, r, s.Host, s.Become)
	if err != nil {
		return rollout.Fail(err)
	}
	if f.Running == j.to {
		return rollout.AlreadyDone("%s runs %s", s.Host, j.to)
	}
	if f.Running != j.from {
		return rollout.Fail(&rollout.Problem{
			Message: fmt.Sprintf("cannot boot %s on %s: it runs %s now, and ran %s when the plan was made", j.to, s.Host, f.Running, j.from),
			Hint:    "make a new plan: fleetd plan",
		})
	}
	if err := j.prepare(l, f); err != nil {
		return rollout.Fail(err)
	}
	if err := rollout.RecorderFrom(ctx).Checkpoint(j.key, f.BootID); err != nil {
		return rollout.Fail(fmt.Errorf("cannot store the boot_id of %s: %w", s.Host, err))
	}
	if err := reboot(ctx, r, s, f.BootID); err != nil {
		// No reboot comes now, so none later may take the next entry.
		return rollout.Fail(errors.Join(err, l.forgetNext()))
	}
	return j.await(l, f.BootID)
}

// prepare sets the stage: a default to fall back to, the trial's arguments, and
// the next entry. Each is read back.
func (j journey) prepare(l loader, f node.Facts) error {
	if err := canTry(l.step.Host, f, j.to); err != nil {
		return err
	}
	entry, _ := f.Boot.Entry(j.to)
	if j.trial {
		if !boots(f.Boot, f.Boot.SavedEntry, j.from) || f.Boot.DefaultRelease() != j.from {
			if err := l.setDefault(f.Boot, j.from); err != nil {
				return err
			}
		}
		if err := l.setArgs(j.to, trialArgs, nil); err != nil {
			return err
		}
	}
	return l.bootOnce(entry)
}

// reboot asks for it, on the boot with this boot_id only: a command that was
// slow to arrive cannot reboot a node twice.
func reboot(ctx context.Context, r node.Remote, s rollout.Step, id string) error {
	res, err := r.Run(ctx, s.Host, sshexec.Command{
		Script:  fmt.Sprintf("[ \"$(cat %s)\" = %s ] || exit 75\nsync\ninit 6", sshexec.BootIDFile, sshexec.QuoteArgv([]string{id})),
		Become:  s.Become,
		Timeout: time.Minute,
	})
	switch {
	case err != nil:
		// The connection may go down under the answer. Whether the node reboots
		// is found out by waiting; only what never started is an error.
		switch kind := sshexec.KindOf(err); kind {
		case sshexec.KindLost, sshexec.KindTimeout, sshexec.KindProtocol:
			return nil
		}
		return err
	case res.OK(), res.ExitStatus == 75, res.Signal != "":
		return nil
	}
	return fmt.Errorf("cannot reboot %s: init 6: %s", s.Host, said(res))
}

// bootID needs no become: a node on its way up may not let anybody be root yet.
func bootID(ctx context.Context, r node.Remote, host string) (string, error) {
	res, err := r.Run(ctx, host, sshexec.Command{Argv: []string{"cat", sshexec.BootIDFile}, Timeout: 30 * time.Second})
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(string(res.Stdout))
	if id == "" {
		return "", fmt.Errorf("cannot read the boot_id of %s: %s", host, said(res))
	}
	return id, nil
}

// await waits for the node to come back and judges what came back.
func (j journey) await(l loader, before string) rollout.Outcome {
	host := l.step.Host
	rollout.RecorderFrom(l.ctx).Progress(fmt.Sprintf("%s reboots into %s", host, j.to))
	l.remote.Forget(host)
	back, err := l.remote.AwaitReboot(l.ctx, host, before, sshexec.Await{Timeout: j.timeout})
	if err != nil {
		return rollout.Fail(fmt.Errorf("cannot await the reboot of %s: %w", host, err))
	}
	switch back.Outcome {
	case sshexec.Rebooted:
		return j.judge(l)
	case sshexec.DidNotHappen:
		// Left there, the next entry would be booted at somebody's next reboot,
		// weeks from now.
		cleared := "next_entry is cleared"
		if err := l.forgetNext(); err != nil {
			cleared = err.Error()
		}
		return rollout.Fail(&rollout.Problem{
			Message: fmt.Sprintf("cannot reboot %s: %v after it was asked to, it still runs %s (%s)", host, j.timeout, j.from, cleared),
			Hint:    fmt.Sprintf("on %s: systemctl list-jobs; systemctl status reboot.target; journalctl -b | tail. Then apply again", host),
		})
	}
	last := ""
	if back.LastError != nil {
		last = ": " + back.LastError.Error()
	}
	return rollout.Fail(&rollout.Problem{
		Message: fmt.Sprintf("%s did not come back within %v after it was asked to boot %s%s", host, j.timeout, j.to, last),
		Hint: fmt.Sprintf("Look at the console of %s. A reset or power cycle boots %s, which is the default still. When it answers again: fleetd apply.",
			host, j.from),
		Unreachable: true,
	})
}

// judge looks at a node that has rebooted: a new boot_id alone proves nothing,
// because a panicked kernel brings the old one back.
func (j journey) judge(l loader) rollout.Outcome {
	host := l.step.Host
	res, err := l.run("uname", "-rv")
	if err != nil {
		return rollout.Fail(err)
	}
	running, _, _ := strings.Cut(strings.TrimSpace(string(res.Stdout)), " ")
	if running == "" {
		return rollout.Fail(fmt.Errorf("cannot read the running kernel of %s: %s", host, said(res)))
	}
	stuck, err := j.cleanUp(l)
	if running == j.to {
		switch {
		case err != nil:
			return rollout.Did("%s runs %s (was %s), but its boot entry was not put back as it was: %v", host, j.to, j.from, err)
		case stuck:
			return rollout.Did("%s runs %s (was %s); GRUB had left next_entry set, which is cleared now", host, j.to, j.from)
		}
		return rollout.Did("%s runs %s (was %s)", host, j.to, j.from)
	}
	p := &rollout.Problem{
		Message: fmt.Sprintf("%s came back on %s: the %skernel %s did not stay up", host, running, map[bool]string{true: "new "}[j.trial], j.to),
		Hint: fmt.Sprintf("%s runs its old kernel and, if it was drained, stays cordoned. Why: its console; on %s: ls /sys/fs/pstore /var/crash, journalctl -b -1 -k.\n"+
			"To give it work again: kubectl uncordon %s. To go on without it: --limit 'all:!%s'. To try again: fleetd apply.", host, host, host, host),
	}
	if stuck {
		p.Message = fmt.Sprintf("%s came back on %s: GRUB did not take the next entry, %s was never tried", host, running, j.to)
		p.Hint = fmt.Sprintf("On %s: does /boot/grub2/grub.cfg load next_entry (grub2-mkconfig -o /boot/grub2/grub.cfg), and is it the one that boots? "+
			"A node that reboots by kexec passes GRUB by: systemctl disable kexec-load.\nTo give it work again: kubectl uncordon %s.", host, host)
	}
	if err != nil {
		p.Message += "; " + err.Error()
	}
	return rollout.Fail(p)
}

// cleanUp takes the trial's traces off the node. stuck says that next_entry was
// still set: GRUB cleared it neither before the boot nor at all, and would boot
// it for ever.
func (j journey) cleanUp(l loader) (stuck bool, err error) {
	env, err := l.env()
	if err != nil {
		return false, err
	}
	if env["next_entry"] != "" {
		stuck = true
		if err := l.forgetNext(); err != nil {
			return stuck, err
		}
	}
	if !j.trial {
		return stuck, nil
	}
	boot, err := l.entries()
	if err != nil {
		return stuck, err
	}
	remove, restore := addedBy(boot, j.from, j.to)
	return stuck, l.setArgs(j.to, slices.Clone(restore), remove)
}
