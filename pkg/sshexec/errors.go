package sshexec

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/fleetd/fleetd/pkg/text"
)

// A Kind says what sort of failure an [*Error] is. Errors of a fleet are
// grouped by it.
type Kind int

const (
	// KindUnknown is none of the others.
	KindUnknown Kind = iota
	// KindUnreachable: no connection: refused, no route, name unknown, or the
	// peer hung up before the handshake.
	KindUnreachable
	// KindAuth: the host let us in as nobody.
	KindAuth
	// KindHostKey: the host's key is unknown, changed, revoked or its
	// certificate is not valid.
	KindHostKey
	// KindBecome: sudo or su did not let us become the other user.
	KindBecome
	// KindTimeout: something did not end in time.
	KindTimeout
	// KindLost: the connection was there and went away.
	KindLost
	// KindProtocol: the peer speaks, but not what we need: no common
	// algorithm, no shell, a refused channel.
	KindProtocol
	// KindFile: the file could not be written, or its digest was wrong.
	KindFile
	// KindCanceled: the caller's context was canceled.
	KindCanceled
	// KindUsage: the request itself was wrong; nothing was sent.
	KindUsage
)

var kindNames = map[Kind]string{
	KindUnknown: "failed", KindUnreachable: "unreachable", KindAuth: "auth failed",
	KindHostKey: "host key refused", KindBecome: "become failed", KindTimeout: "timed out",
	KindLost: "connection lost", KindProtocol: "protocol error", KindFile: "file not written",
	KindCanceled: "canceled", KindUsage: "bad request",
}

// String returns the few words under which a fleet's errors are grouped, such
// as "auth failed".
func (k Kind) String() string {
	if s, ok := kindNames[k]; ok {
		return s
	}
	return fmt.Sprintf("kind %d", int(k))
}

// An Error is a failure to do something on one host. No field holds a secret.
type Error struct {
	// Host is the target's name.
	Host string
	// Op completes "cannot … on HOST": "connect", "log in as root", "run uname".
	Op   string
	Kind Kind
	// Err is the cause.
	Err error
	// Hint says what the person can do next. It may be empty.
	Hint string

	addr  string     // what in Err is the host's own, for grouping
	retry retryClass // how often another attempt is worth it
}

// Error returns "cannot OP on HOST: CAUSE" ("cannot connect to HOST: CAUSE"),
// passed through text.Printable; one line, unless the request itself was wrong. The hint
// is apart, so that it is printed once for many hosts: see [HintOf].
func (e *Error) Error() string {
	if e.Host == "" {
		return e.Err.Error() // not yet of a host
	}
	where := " on "
	if e.Op == "connect" {
		where = " to "
	}
	return "cannot " + oneLine(e.Op+where+e.Host) + e.cause()
}

// Cause is the failure without the host, "cannot OP: CAUSE", so that equal failures of
// many hosts read alike.
func (e *Error) Cause() string {
	text := "cannot " + oneLine(e.Op) + e.cause()
	if e.addr != "" {
		text = strings.ReplaceAll(text, e.addr, "the host")
	}
	return text
}

// cause is safe to show: what a peer says is in many a cause, and must neither
// move the cursor, nor write over our words, nor forge a line of fleetd's.
func (e *Error) cause() string {
	if e.Err == nil {
		return ""
	}
	if e.Kind == KindUsage {
		return ": " + text.Printable(e.Err.Error())
	}
	return ": " + oneLine(e.Err.Error())
}

// maxShown is how many bytes of others' words an error shows.
const maxShown = 8 << 10

// oneLine is text of a peer's or an inventory's on a line of fleetd's. A carriage
// return does not start it anew: it would take our own words away.
func oneLine(s string) string {
	if len(s) > maxShown {
		s = s[:maxShown] + " …"
	}
	s = text.Printable(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(s))
	return strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ")
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the [*Error] in err's chain, or KindUnknown.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return KindUnknown
}

// HintOf returns the hint of the [*Error] in err's chain, or "".
func HintOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Hint
	}
	return ""
}

// wrap makes err, if it is one, the error of doing op on t.
func wrap(t Target, op string, err error) error {
	if err == nil {
		return nil
	}
	return errorOf(t, op, err)
}

// errorOf names the host, and the operation where the error has none of its own: one
// dial serves callers that name the host differently.
func errorOf(t Target, op string, err error) *Error {
	own := &Error{Op: op, Err: err}
	if e, ok := errors.AsType[*Error](err); ok {
		if e.Host != "" {
			return e
		}
		copied := *e
		own = &copied
		own.Op = cmp.Or(e.Op, op)
	} else {
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			own.Kind = KindTimeout
		case errors.Is(err, context.Canceled):
			own.Kind = KindCanceled
		case errors.Is(err, errLost):
			own.Kind = KindLost
		}
	}
	own.Host, own.addr = t.name(), t.HostPort()
	return own
}

var errLost = errors.New("connection lost")
