package boot

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// The notes of a trial about the node's health: how it was before the reboot, since
// when the node is up, which processes serve and since when, and, of a node that is not
// as well as before, why, in which boot, and since when it is to go back.
const (
	noteHealth    = "health"
	noteUp        = "up"
	noteProcesses = "processes"
	noteSteady    = "steady"
	noteIll       = "ill"
	noteIllBoot   = "ill_boot"
	noteIllAt     = "ill_at"
)

const (
	// healthPatience is how long something may be missing on a node on which nothing
	// is on its way up; where something is, it is the trial's timeout.
	healthPatience = time.Minute
	// healthSettle is how long it has to stay well: longer than a kubelet that
	// crashes takes to be started again (10 s).
	healthSettle = 15 * time.Second
)

// healthBefore is what the node is held against after its reboot.
func (l Loader) healthBefore(f node.Facts) (string, error) {
	h, err := node.ReadHealth(l.ctx, l.remote, l.step.Host, l.step.Become)
	if err != nil {
		return "", err
	}
	if strings.Contains(f.Cmdline, "crashkernel=auto") {
		// To a mainline kernel it means nothing, and the plan has said so (notes).
		h.Failed = append(h.Failed, "kdump.service")
	}
	return h.String(), nil
}

// worse says in what a node is not as well as it was before. coming tells that some of
// it may yet be on its way up.
func worse(before, now node.Health, ignore []string) (why []string, coming bool) {
	fresh := func(units, known []string) []string {
		return slices.DeleteFunc(minus(units, known), func(u string) bool {
			return slices.ContainsFunc(ignore, func(pattern string) bool {
				ok, err := path.Match(pattern, u)
				return err == nil && ok
			})
		})
	}
	for _, u := range fresh(now.Failed, before.Failed) {
		why = append(why, "unit "+u+" has failed")
	}
	starting := fresh(now.Starting, slices.Concat(before.Starting, before.Failed))
	for _, u := range starting {
		why = append(why, "unit "+u+" is still starting")
	}
	for _, x := range []struct {
		text      string
		was, have []string
	}{
		{"network interface %s is not up", before.Links, now.Links},
		{"address %s is missing", before.Addresses, now.Addresses},
		{"route \"%s\" is missing", before.Routes, now.Routes},
	} {
		for _, what := range minus(x.was, x.have) {
			why = append(why, fmt.Sprintf(x.text, what))
		}
	}
	for name := range before.Services {
		if _, active := now.Services[name]; !active {
			why = append(why, name+" is not active")
		}
	}
	slices.Sort(why)
	return why, len(starting) > 0
}

// asWell looks whether the node is as well on the kernel on trial as it was before, and
// stays so; the outcome is what the step comes to until it does. A node that is not in
// time is to go back: that is durable before anything is done about it.
func (j journey) asWell(l Loader, boot string) (o rollout.Outcome, well bool) {
	s := l.step
	if !j.trial || s.SoFar[noteHealth] == "" {
		return o, true
	}
	before := node.ParseHealth(s.SoFar[noteHealth])
	now, err := node.ReadHealth(l.ctx, l.remote, s.Host, s.Become)
	why, coming := worse(before, now, j.ignoreUnits)
	switch {
	case l.ctx.Err() != nil:
		return rollout.Fail(context.Cause(l.ctx)), false
	case passing(err) && s.Since(noteAsked) <= j.patience():
		return rollout.WaitFor(bootPoll, "%v", err), false
	case sshexec.KindOf(err) == sshexec.KindHostKey:
		return rollout.Fail(err), false
	case err != nil:
		why, coming = []string{err.Error()}, false
	}
	up := time.Duration(0)
	if s.SoFar[noteUp] != "" {
		up = s.Since(noteUp)
	}
	wait := func(format string, args ...any) rollout.Outcome {
		return rollout.WaitFor(bootPoll, format, args...).Note(noteUp, (s.Now - up).String())
	}
	processes := "of " + now.Processes()
	same := s.SoFar[noteProcesses] == processes
	switch {
	case len(why) == 0 && same && s.Since(noteSteady) >= healthSettle:
		return o, true
	case len(why) == 0 && up < j.timeout:
		o = wait("%s runs %s, as well as before, and has to stay so for %v", s.Host, j.to, healthSettle)
		if !same {
			o = o.Note(noteProcesses, processes).Note(noteSteady, s.Now.String())
		}
		return o, false
	case len(why) == 0:
		why = []string{"the kubelet or the container runtime is restarted over and over (" + processes + ")"}
	case up < healthPatience || coming && up < j.timeout:
		return wait("%s runs %s, but not as well as before: %s", s.Host, j.to, strings.Join(why, "; ")).Note(noteProcesses, ""), false
	}
	switch err := l.recordFailed(j.to, s.SoFar[noteBootID]); {
	case l.ctx.Err() != nil:
		return rollout.Fail(context.Cause(l.ctx)), false
	case err != nil:
		why = append(why, err.Error()) // a disk that cannot be written to is no reason to stay
	}
	return rollout.Intend(noteIll, strings.Join(why, "; ")).Note(noteIllBoot, boot).Note(noteIllAt, s.Now.String()).Note(noteAsked, ""), false
}

// goBack takes a node that is not as well as before back to the kernel from before,
// which is the default, and fails. It writes nothing there: it may be the disk that is
// not well.
func (j journey) goBack(l Loader, why string) rollout.Outcome {
	s := l.step
	s.Elapsed = s.Since(noteIllAt)
	s.SoFar = map[string]string{noteBootID: s.SoFar[noteIllBoot], noteAsked: s.SoFar[noteAsked]}
	out := bootInto(l.ctx, l.remote, s, journey{from: j.to, to: j.from, timeout: j.timeout, plain: true})
	if !out.Final() {
		return out
	}
	p := &rollout.Problem{
		Message: fmt.Sprintf("%s is not as well on kernel %s as it was on %s: %s; it came back on %[3]s", s.Host, j.to, j.from, why),
		Hint: fmt.Sprintf("If it was drained, it stays cordoned. Why: on %[1]s: journalctl -b -1 -p warning; journalctl -b -1 -u UNIT.\n"+
			"To give it work again: kubectl uncordon %[1]s. To go on without it: --limit 'all:!%[1]s'. To take the kernel all the same: fleetd apply with -e retry_failed_kernels=true, and -e kernel_ignore_units=UNIT for a unit that need not work on it.", s.Host),
	}
	if err := l.forget(); err != nil && !out.Bad() {
		p.Message += "; " + err.Error()
	}
	if out.Bad() {
		p.Message = fmt.Sprintf("%s is not as well on kernel %s as it was on %s: %s; and it did not go back: %s", s.Host, j.to, j.from, why, out.Message)
		p.Hint = out.Hint + "\nThe default is " + j.from + ": a reset goes back to it."
		p.Unreachable = out.Kind == rollout.Unreachable
	}
	return rollout.Fail(p)
}
