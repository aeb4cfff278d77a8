package sshexec

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// An Await bounds the wait for a reboot.
type Await struct {
	// Timeout is how long to wait in all. 0 means 10 minutes.
	Timeout time.Duration
	// Poll is the pause between attempts. 0 means 2 seconds.
	Poll time.Duration
	// Settle ends the wait early when the host has answered with the old boot
	// ID for so long without a break: the reboot does not happen. A node can
	// take minutes to stop its services, and its sshd answers until late in
	// that. 0 means that only Timeout ends the wait.
	Settle time.Duration
	// Resolve is called before each attempt, for a host whose address may
	// change. Nil means that the target stays as it is.
	Resolve func(context.Context) (Target, error)
}

// A RebootOutcome is how the wait for a reboot ended.
type RebootOutcome int

const (
	// DidNotReturn: at the end of the wait the host did not answer.
	DidNotReturn RebootOutcome = iota
	// Rebooted: the host answers with another boot ID.
	Rebooted
	// DidNotHappen: at the end of the wait the host answers with the old boot ID.
	DidNotHappen
)

func (o RebootOutcome) String() string {
	switch o {
	case Rebooted:
		return "rebooted"
	case DidNotHappen:
		return "did not happen"
	default:
		return "did not return"
	}
}

// A Reboot is what AwaitReboot found.
type Reboot struct {
	Outcome RebootOutcome
	// BootID is the last one that the host told; empty if it never answered.
	BootID string
	// Took is the time from the call until the outcome was known.
	Took time.Duration
	// LastError is why the last attempt failed, nil if it did not. With
	// DidNotReturn it tells a dead host from one that refuses the login.
	LastError error
}

// BootIDFile is where Linux tells the ID of the boot, new at each.
const BootIDFile = "/proc/sys/kernel/random/boot_id"

// BootID reads the ID of t's current boot.
func (p *Pool) BootID(ctx context.Context, t Target) (string, error) {
	const op = "read the boot ID"
	res, err := p.run(ctx, t, Command{Argv: []string{"cat", BootIDFile}})
	if err != nil {
		return "", wrap(t, op, err)
	}
	id := strings.TrimSpace(string(res.Stdout))
	if !res.OK() || len(id) != 36 {
		return "", wrap(t, op, &fault{kind: KindProtocol, err: fmt.Errorf("cat %s: status %d, %q", BootIDFile, res.ExitStatus, id+string(res.Stderr))})
	}
	return id, nil
}

// AwaitReboot waits until t answers with a boot ID other than previousBootID.
// Read that with [Pool.BootID] before the reboot is asked for.
//
// Each attempt is a connection of its own, and closes those that the pool has
// to t: an old one may be half open, and an open port proves nothing (a load
// balancer, or a hypervisor's user-mode network, accepts connections for a
// guest that is down). While a host goes down or comes up it may refuse
// connections, logins and sessions: all that is waited out. The errors are: a
// wrong host key, at once (with Resolve set it is waited out too, since the
// address may still be another machine's, and is returned at the end), and the
// end of ctx.
//
// Durations are measured on our monotonic clock; the node's clock plays no part.
func (p *Pool) AwaitReboot(ctx context.Context, t Target, previousBootID string, a Await) (Reboot, error) {
	if a.Timeout <= 0 {
		a.Timeout = 10 * time.Minute
	}
	if a.Poll <= 0 {
		a.Poll = 2 * time.Second
	}
	const op = "await the reboot"
	if previousBootID == "" {
		return Reboot{}, wrap(t, op, &fault{kind: KindUsage, err: errors.New("the boot ID from before the reboot is not known")})
	}
	start := time.Now()
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, a.Timeout)
	defer cancel()

	var r Reboot
	var same time.Time // since when the old boot ID is answered
	p.Forget(t)
	for {
		if a.Resolve != nil {
			if now, err := a.Resolve(ctx); err == nil {
				t = now
			} else {
				// The old address may still be right.
				p.log.Debug("cannot resolve the address", "host", t.name(), "err", err)
			}
		}
		id, err := p.probeBootID(ctx, t)
		r.Took = time.Since(start)
		switch {
		case err == nil && id != previousBootID:
			r.Outcome, r.BootID, r.LastError = Rebooted, id, nil
			return r, nil
		case err == nil:
			r.Outcome, r.BootID, r.LastError = DidNotHappen, id, nil
			if same.IsZero() {
				same = time.Now()
			}
			if a.Settle > 0 && time.Since(same) >= a.Settle {
				return r, nil
			}
		case outer.Err() != nil:
			return r, wrap(t, op, context.Cause(outer))
		case ctx.Err() != nil:
			// Our own end cut this attempt: what the one before it found stands.
			if r.LastError == nil && same.IsZero() {
				r.LastError = err
			}
			return r.end()
		default:
			same = time.Time{}
			r.Outcome, r.LastError = DidNotReturn, err
			if KindOf(err) == KindHostKey && a.Resolve == nil {
				return r, err
			}
		}
		select {
		case <-time.After(a.Poll):
		case <-outer.Done():
			return r, wrap(t, op, context.Cause(outer))
		case <-ctx.Done():
			r.Took = time.Since(start)
			return r.end()
		}
	}
}

// end is the end of the whole wait.
func (r Reboot) end() (Reboot, error) {
	if KindOf(r.LastError) == KindHostKey {
		return r, r.LastError
	}
	return r, nil
}

// probeBootID makes one attempt over a fresh connection.
func (p *Pool) probeBootID(ctx context.Context, t Target) (string, error) {
	p.Forget(t)
	// Retries would only blur what the host does.
	t.attempts = 1
	if err := p.Connect(ctx, t); err != nil { // has its own bound
		return "", err
	}
	// A host that goes down in the middle of its answer is not waited for
	// longer than one that does not answer at all.
	ctx, cancel := context.WithTimeout(ctx, t.connectTimeout())
	defer cancel()
	return p.BootID(ctx, t)
}
