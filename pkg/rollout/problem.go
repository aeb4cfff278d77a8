package rollout

import "errors"

// AsProblem turns any error into a Problem for a person. The whole chain's
// text is the message; the hint and whether the host could be reached are
// taken from the first error in the chain that knows.
func AsProblem(err error) *Problem {
	out := &Problem{Message: err.Error()}
	var p *Problem
	if errors.As(err, &p) {
		out.Hint, out.Unreachable = p.Hint, p.Unreachable
	}
	var h interface{ Hint() string }
	if out.Hint == "" && errors.As(err, &h) {
		out.Hint = h.Hint()
	}
	var u interface{ Unreachable() bool }
	if errors.As(err, &u) {
		out.Unreachable = out.Unreachable || u.Unreachable()
	}
	return out
}
