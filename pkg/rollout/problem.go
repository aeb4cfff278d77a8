package rollout

import (
	"errors"
	"slices"
	"strings"
)

// AsProblem turns any error into a Problem for a person. The whole chain's
// text is the message; the hint and whether the host could be reached are
// taken from the first error in the chain that knows.
func AsProblem(err error) *Problem {
	out := &Problem{Message: err.Error()}
	var p *Problem
	if errors.As(err, &p) {
		out.Hint, out.Unreachable, out.Parts = p.Hint, p.Unreachable, p.Parts
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

// Single are the problems that this one tells of.
func (p Problem) Single() []Problem {
	if len(p.Parts) == 0 {
		return []Problem{p}
	}
	return p.Parts
}

// together makes one problem of several. What a later one says again, in a sentence
// of its own, is left out.
func together(all []*Problem) *Problem {
	if len(all) == 1 {
		return all[0]
	}
	out := &Problem{}
	var messages, hints []string
	for _, p := range all {
		for _, part := range p.Single() {
			if slices.ContainsFunc(out.Parts, func(told Problem) bool { return strings.Contains(part.Message, told.Message) }) {
				continue
			}
			out.Parts = append(out.Parts, part)
			messages, hints = append(messages, part.Message), append(hints, part.Hint)
		}
	}
	out.Message, out.Hint = strings.Join(messages, "; "), strings.Join(hints, "\n")
	return out
}
