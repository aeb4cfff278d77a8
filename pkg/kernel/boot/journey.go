package boot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/words"
)

// journey is one reboot from one kernel into another.
type journey struct {
	from, to string
	timeout  time.Duration
	// trial boots an entry of its own and makes from the default to fall back to;
	// retryFailed also where to failed a trial before.
	trial, retryFailed bool
	// unproven is a trial whose reboot is behind an earlier run, which was cut off.
	unproven bool
	// plain is a reboot into the default, which needs nothing to be prepared.
	plain bool
	// ignoreUnits are patterns of units that need not work after a trial.
	ignoreUnits []string
}

// The notes of a journey: the boot_id from before the reboot, when the reboot was
// asked for, that GRUB had left next_entry set after it, and the boot in which the
// kernel was found to be the right one, and nothing left of the trial.
const (
	noteBootID = "boot_id"
	noteAsked  = "asked"
	noteStuck  = "stuck"
	noteClean  = "clean"
)

const bootPoll = 5 * time.Second

// bootInto takes the node from one kernel into the other with at most one
// reboot, however often it is called for one step.
//
// The boot_id is durable before anything is prepared. A call that finds it asks
// the node first: with another boot_id the reboot is behind us and only its
// result is to be judged; with the same one it is asked for, by a command that
// does nothing on any other boot, or was asked for and is waited for; with no
// answer it is waited for, because the call that asked may have been killed
// before it could tell.
func bootInto(ctx context.Context, r node.Remote, s rollout.Step, j journey) rollout.Outcome {
	l := Loader{ctx, r, s}
	before := s.SoFar[noteBootID]
	if before == "" {
		return j.intend(l)
	}
	if why := s.SoFar[noteIll]; why != "" {
		return j.goBack(l, why)
	}
	// An old connection may be half open.
	r.Forget(s.Host)
	now, err := node.BootID(ctx, r, s.Host)
	switch {
	case ctx.Err() != nil:
		return rollout.Fail(context.Cause(ctx))
	case sshexec.KindOf(err) == sshexec.KindHostKey:
		return rollout.Fail(err)
	case err == nil && s.SoFar[noteClean] == now:
		return j.settled(l, now, s.SoFar[noteStuck] != "", nil)
	case err == nil && now != before:
		return j.judge(l, now)
	case err != nil || s.SoFar[noteAsked] != "":
		return j.await(l, err)
	}
	return j.ask(l, before)
}

// intend looks whether the reboot is to be and can be.
func (j journey) intend(l Loader) rollout.Outcome {
	host := l.step.Host
	f, err := node.Gather(l.ctx, l.remote, host, l.step.Become)
	if err != nil {
		return rollout.Fail(err)
	}
	if f.Running == j.to {
		left, err := l.cleanUp()
		t, open := unproven(f, j.to)
		open = open && j.trial && t.From == j.from
		if err == nil && t.Run != "" && !open {
			err = l.forget()
		}
		switch {
		case err != nil:
			return rollout.Fail(err)
		case open:
			return rollout.Intend(noteBootID, t.Run).Note(noteHealth, t.Before).Note(noteAsked, l.step.Now.String())
		case left.none():
			return rollout.AlreadyDone("%s runs %s", host, j.to)
		}
		return rollout.Did("%s runs %s; what a trial had left there is taken away", host, j.to)
	}
	if ran := map[bool]string{true: j.to, false: j.from}[j.unproven]; f.Running != ran {
		return rollout.Fail(&rollout.Problem{
			Message: fmt.Sprintf("cannot boot %s on %s: it runs %s now, and ran %s when the plan was made", j.to, host, f.Running, ran),
			Hint:    "make a new plan: fleetd plan",
		})
	}
	if err := canTry(host, f, j.to); err != nil {
		return rollout.Fail(err)
	}
	if j.trial {
		if err := canTryAgain(host, f, j.to, j.retryFailed); err != nil {
			return rollout.Fail(err)
		}
	}
	out := rollout.Intend(noteBootID, f.BootID)
	if j.trial {
		health, err := l.healthBefore(f)
		if err != nil {
			return rollout.Fail(err)
		}
		out = out.Note(noteHealth, health)
	}
	return out
}

// ask prepares the reboot and asks for it.
func (j journey) ask(l Loader, before string) rollout.Outcome {
	s := l.step
	f, err := node.Gather(l.ctx, l.remote, s.Host, s.Become)
	if err == nil && f.BootID != before {
		return j.judge(l, f.BootID)
	}
	if err == nil && !j.plain {
		err = j.prepare(l, f, before)
	}
	if err == nil {
		o, holds := rollout.StillKept(l.ctx)
		switch {
		case !holds && !o.Final() && s.Elapsed <= j.timeout:
			return o
		case !holds:
			err = &rollout.Problem{Message: fmt.Sprintf("%s is not rebooted: %s", s.Host, o.Message), Hint: o.Hint}
		}
	}
	if err == nil {
		rollout.RecorderFrom(l.ctx).Progress(fmt.Sprintf("%s reboots into %s", s.Host, j.to))
		err = reboot(l.ctx, l.remote, s, before, j.reason())
	}
	switch {
	case err == nil:
		return rollout.WaitFor(bootPoll, "%s reboots into %s", s.Host, j.to).Note(noteAsked, s.Now.String())
	case l.ctx.Err() != nil:
		return rollout.Fail(err)
	case passing(err):
		// A call that was killed may have asked, and the node is on its way down.
		return j.await(l, err)
	}
	// No reboot comes now, so none later may take the next entry.
	if left := l.giveUp(); left != nil {
		err = fmt.Errorf("%w; %w", err, left)
	}
	return rollout.Fail(err)
}

// giveUp takes away what was prepared for a reboot that does not come.
func (l Loader) giveUp() error {
	if _, err := l.cleanUp(); err != nil {
		return err
	}
	return l.forget()
}

// passing tells an error that a node gives on its way down or up. A command that
// it took and did not end in time is none.
func passing(err error) bool {
	return err != nil && rollout.AsProblem(err).Unreachable && sshexec.KindOf(err) != sshexec.KindHostKey
}

// prepare sets the stage: nothing is left of an earlier trial, there is a default
// to fall back to, the dead-man switch is armed, and an entry for the trial is
// the next entry. Each is read back.
func (j journey) prepare(l Loader, f node.Facts, before string) error {
	if err := canTry(l.step.Host, f, j.to); err != nil {
		return err
	}
	entry, _ := f.Boot.Entry(j.to)
	if j.trial {
		entry, _ = trialOf(f.Boot, j.to)
	}
	// A call that was killed may have come this far and asked: the node, on its
	// way down already, must not find the next entry missing.
	ready := f.Boot.NextEntry != "" && f.Boot.NextEntry == entryName(entry) && (!j.trial || entry.TrialRun() == before && f.Boot.DeadMan == before)
	if !ready {
		if _, err := l.cleanUp(); err != nil {
			return err
		}
	}
	if !j.trial {
		return l.bootOnce(entry)
	}
	boot, err := l.Entries()
	if err != nil {
		return err
	}
	if !ready {
		if err := l.KeepDefault(boot, j.from); err != nil {
			return err
		}
		if entry, err = l.addTrial(boot, j.from, j.to, before, j.timeout); err != nil {
			return err
		}
	}
	// C grubby writes saved_entry anew when it adds an entry.
	if err := l.KeepDefault(boot, j.from); err != nil {
		return err
	}
	if err := l.record(node.Trial{Run: before, From: j.from, To: j.to, Before: l.step.SoFar[noteHealth]}); err != nil {
		return err
	}
	if err := l.arm(before, j.timeout); err != nil {
		return err
	}
	return l.bootOnce(entry)
}

// reboot asks for it, on the boot with this boot_id only: a command that was
// slow to arrive cannot reboot a node twice.
func reboot(ctx context.Context, r node.Remote, s rollout.Step, id, why string) error {
	res, err := r.Run(ctx, s.Host, sshexec.Command{Script: rebootScript(id, why), Become: s.Become, Timeout: time.Minute})
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
	return fmt.Errorf("cannot reboot %s: init 6: %s", s.Host, res.Said())
}

// reason is what the node's own log and whoever is logged in there are told.
func (j journey) reason() string {
	if j.trial {
		return fmt.Sprintf("fleetd reboots this machine into kernel %s, on trial; %s stays the default", j.to, j.from)
	}
	return fmt.Sprintf("fleetd reboots this machine into kernel %s", j.to)
}

// rebootScript waits for nobody's terminal.
func rebootScript(id, why string) string {
	why = words.Quote(why)
	return fmt.Sprintf("[ \"$(cat %s)\" = %s ] || exit 75\nlogger -t fleetd -p daemon.notice %[3]s 2>/dev/null\n"+
		"echo %[3]s | wall >/dev/null 2>&1 &\nsync\ninit 6", sshexec.BootIDFile, words.Quote(id), why)
}

// await waits for a node that does not answer, with err, or that answers from
// the boot that it is to leave. When its time is over it says what that means.
func (j journey) await(l Loader, err error) rollout.Outcome {
	host := l.step.Host
	switch {
	case !j.late(l.step) && err == nil:
		return rollout.WaitFor(bootPoll, "%s was asked to reboot, and still runs %s", host, j.from)
	case !j.late(l.step):
		return rollout.WaitFor(bootPoll, "%s does not answer yet", host)
	case err != nil && l.step.Since(noteAsked) <= j.patience():
		return rollout.WaitFor(bootPoll, "%s does not answer; its dead-man switch is to bring %s back", host, j.from)
	case err != nil:
		was := "was asked"
		if l.step.SoFar[noteAsked] == "" {
			was = "was to be asked"
		}
		return rollout.Fail(&rollout.Problem{
			Message: fmt.Sprintf("%s did not come back within %v after it %s to boot %s: %v", host, j.patience(), was, j.to, err),
			Hint: fmt.Sprintf("Look at the console of %s. A reset or power cycle boots %s, which is the default still. When it answers again: fleetd apply.",
				host, j.from),
			Unreachable: true,
		})
	}
	// Left there, the next entry would be booted at somebody's next reboot, weeks
	// from now.
	cleared := "nothing is left of the attempt"
	if err := l.giveUp(); err != nil {
		cleared = err.Error()
	}
	return rollout.Fail(&rollout.Problem{
		Message: fmt.Sprintf("cannot reboot %s: %v after it was asked to, it still runs %s (%s)", host, j.timeout, j.from, cleared),
		Hint:    fmt.Sprintf("on %s: systemctl list-jobs; systemctl status reboot.target; journalctl -b | tail. Then apply again", host),
	})
}

// late tells that the node has had its time, from when it was asked to reboot.
func (j journey) late(s rollout.Step) bool { return s.Since(noteAsked) > j.timeout }

// patience is how long a node that does not answer is waited for. On a trial the
// way up may take as long as it may, then the dead-man switch waits as long, and
// then the node comes back.
func (j journey) patience() time.Duration {
	if j.trial {
		return 3 * j.timeout
	}
	return j.timeout
}

// judge looks at a node that has rebooted: a new boot_id alone proves nothing,
// because a panicked kernel brings the old one back. boot is the one that it is in.
func (j journey) judge(l Loader, boot string) rollout.Outcome {
	host := l.step.Host
	running, err := l.running()
	stuck, left := false, err
	var armed stillArmed
	if err == nil {
		var found leftover
		found, left = l.cleanUp()
		// GRUB cleared it neither before the boot nor at all, and would boot it for
		// ever.
		stuck = found.next != "" || l.step.SoFar[noteStuck] != ""
	}
	switch {
	case l.ctx.Err() != nil:
		return rollout.Fail(context.Cause(l.ctx))
	case errors.As(left, &armed) && armed.goneOff:
		return rollout.WaitFor(bootPoll, "%v", left)
	// A node that has only just come up may not let anybody be root yet.
	case (passing(left) || sshexec.KindOf(left) == sshexec.KindBecome) && l.step.Since(noteAsked) <= j.patience():
		return rollout.WaitFor(bootPoll, "%s is back, but not ready yet: %v", host, left)
	case err != nil:
		return rollout.Fail(err)
	case running == j.to && errors.As(left, &armed):
		return rollout.Fail(left)
	}
	if running == j.to {
		return j.settled(l, boot, stuck, left)
	}
	if j.trial && !stuck {
		left = errors.Join(left, l.recordFailed(j.to, l.step.SoFar[noteBootID]))
	}
	if j.trial {
		left = errors.Join(left, l.forget())
	}
	p := &rollout.Problem{
		Message: fmt.Sprintf("%s came back on %s: the %skernel %s did not stay up", host, running, map[bool]string{true: "new "}[j.trial], j.to),
		Hint: fmt.Sprintf("%s runs its old kernel and, if it was drained, stays cordoned. Why: its console; on %s: ls /sys/fs/pstore /var/crash, journalctl -b -1 -k.\n"+
			"To give it work again: kubectl uncordon %s. To go on without it: --limit 'all:!%s'. To try this kernel again: fleetd apply with -e retry_failed_kernels=true.", host, host, host, host),
	}
	if stuck {
		p.Message = fmt.Sprintf("%s came back on %s: GRUB did not take the next entry, %s was never tried", host, running, j.to)
		p.Hint = fmt.Sprintf("On %s: ls -l /boot/grub2/grubenv /boot/efi/EFI/*/grubenv: does GRUB read another one than grub2-editenv writes? "+
			"A node that reboots by kexec passes GRUB by: systemctl disable kexec-load.\nTo give it work again: kubectl uncordon %s.", host, host)
	}
	if left != nil {
		p.Message += "; " + left.Error()
	}
	return rollout.Fail(p)
}

// settled ends a journey that has led into the right kernel, once the node is as well
// on it as before. stuck is that GRUB had left next_entry set, left why not all of the
// trial was taken away.
func (j journey) settled(l Loader, boot string, stuck bool, left error) rollout.Outcome {
	host := l.step.Host
	if o, well := j.asWell(l, boot); !well {
		if stuck {
			o = o.Note(noteStuck, "yes")
		}
		if left == nil {
			o = o.Note(noteClean, boot)
		}
		return o
	}
	if !j.plain {
		err := l.forget()
		if passing(err) && l.step.Since(noteAsked) <= j.patience() {
			o := rollout.WaitFor(bootPoll, "%v", err)
			if stuck {
				o = o.Note(noteStuck, "yes")
			}
			return o
		}
		left = errors.Join(left, err)
	}
	if j.retryFailed {
		left = errors.Join(left, l.recordFailed(j.to, ""))
	}
	switch {
	case left != nil:
		return rollout.Did("%s runs %s (was %s), but what the trial left there was not taken away: %v", host, j.to, j.from, left)
	case stuck:
		return rollout.Did("%s runs %s (was %s); GRUB had left next_entry set, which is cleared now", host, j.to, j.from)
	}
	return rollout.Did("%s runs %s (was %s)", host, j.to, j.from)
}
