package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/words"
)

// Remote reaches nodes by their inventory names. An error means that the node
// could not be talked to or the command not be run to its end; how a command
// ended is in its Result.
type Remote interface {
	Runner
	Upload(ctx context.Context, host string, u sshexec.Upload) error
	Forget(host string)
}

// Fleet is the Remote of an inventory: it finds a host's connection by name and
// notes what it does there with the Recorder of the context.
type Fleet struct {
	pool    *sshexec.Pool
	targets map[string]sshexec.Target
}

var _ Connector = (*Fleet)(nil)

// NewFleet returns the Remote of these hosts. The pool stays the caller's to close.
func NewFleet(pool *sshexec.Pool, targets map[string]sshexec.Target) *Fleet {
	return &Fleet{pool: pool, targets: targets}
}

// Connect logs in, if no connection is open. It changes nothing on the node, and
// the journal does not get it.
func (f *Fleet) Connect(ctx context.Context, host string) error {
	t, err := f.target(host)
	if err != nil {
		return err
	}
	return asUnreachable(f.pool.Connect(ctx, t))
}

// Reached tells what is dialed for the host, and the fingerprint of the host key
// of the open connection, "" if there is none.
func (f *Fleet) Reached(host string) (address, hostKey string) {
	t, ok := f.targets[host]
	if !ok {
		return "", ""
	}
	return t.HostPort(), f.pool.HostKey(t)
}

// Run runs one command. The journal gets it as it was run, with the end of what
// it printed. What of it is secret has to be named in its Secrets.
func (f *Fleet) Run(ctx context.Context, host string, c sshexec.Command) (sshexec.Result, error) {
	op := rollout.Operation{Kind: "ssh", Host: host, Started: time.Now()}
	if host == rollout.Localhost {
		op.Kind = "local"
		r, err := here{}.Run(ctx, c)
		op.Took = time.Since(op.Started)
		rollout.RecorderFrom(ctx).Record(describe(op, sshexec.Target{}, c, r, err))
		return r, err
	}
	t, err := f.target(host)
	if err != nil {
		return sshexec.Result{}, err
	}
	r, err := f.pool.Run(ctx, t, c)
	op.Took = time.Since(op.Started)
	rollout.RecorderFrom(ctx).Record(describe(op, t, c, r, err))
	return r, asUnreachable(err)
}

// Upload puts a file on the node.
func (f *Fleet) Upload(ctx context.Context, host string, u sshexec.Upload) error {
	t, err := f.target(host)
	if err != nil {
		return err
	}
	op := rollout.Operation{Kind: "upload", Host: host, Text: fmt.Sprintf("%s (%d bytes, mode %o)", u.Path, u.Size, u.Mode.Perm()), Started: time.Now(), Result: "ok"}
	err = f.pool.Upload(ctx, t, u)
	op.Took = time.Since(op.Started)
	if err != nil {
		op.Result = err.Error()
	}
	rollout.RecorderFrom(ctx).Record(secretsOf(t, nil).redactAll(op))
	return asUnreachable(err)
}

// Forget drops the connections to the host.
func (f *Fleet) Forget(host string) {
	if t, ok := f.targets[host]; ok {
		f.pool.Forget(t)
	}
}

func (f *Fleet) target(host string) (sshexec.Target, error) {
	t, ok := f.targets[host]
	if !ok {
		return t, &rollout.Problem{
			Message:     fmt.Sprintf("cannot connect to %s: the inventory has no address for it", host),
			Hint:        "give it an ansible_host in the inventory",
			Unreachable: true,
		}
	}
	return t, nil
}

// Typed is a command line as a person would type it: quotes only where a shell
// needs them.
func Typed(argv ...string) string {
	typed := make([]string, len(argv))
	for i, a := range argv {
		typed[i] = a
		if a == "" || !madeOf(a, "_@%+=:,./-") {
			typed[i] = words.Quote(a)
		}
	}
	return strings.Join(typed, " ")
}

// commandText is a command as it would be typed.
func commandText(c sshexec.Command) string {
	if len(c.Argv) > 0 {
		return Typed(c.Argv...)
	}
	return strings.TrimSpace(c.Script)
}

// shorten has the first line of a long script stand for it, which says what it
// is: the facts script alone would fill the journal of a fleet.
func shorten(text string) string {
	const most = 2000
	if len(text) > most {
		first, _, _ := strings.Cut(text, "\n")
		text = fmt.Sprintf("%s … (%d bytes)", strings.ToValidUTF8(first[:min(len(first), most)], ""), len(text))
	}
	return text
}

// unreachable gives a connection's error the methods that rollout asks errors
// for: what to do next, and whether the host was reached at all.
type unreachable struct{ err *sshexec.Error }

func (u *unreachable) Error() string { return u.err.Error() }
func (u *unreachable) Unwrap() error { return u.err }
func (u *unreachable) Hint() string  { return u.err.Hint }

// Unreachable is Ansible's notion: the connection failed, for whatever reason;
// a node that lets us in and then refuses sudo, or a command that takes too
// long, has failed.
func (u *unreachable) Unreachable() bool {
	switch u.err.Kind {
	case sshexec.KindUnreachable, sshexec.KindAuth, sshexec.KindHostKey, sshexec.KindLost, sshexec.KindProtocol:
		return true
	case sshexec.KindTimeout:
		return !strings.HasPrefix(u.err.Op, "run ")
	}
	return false
}

func asUnreachable(err error) error {
	var e *sshexec.Error
	if errors.As(err, &e) {
		return &unreachable{e}
	}
	return err
}
