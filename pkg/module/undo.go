package module

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/words"
)

// Undo puts back what was there. What somebody else has changed since is left
// alone.
func (m converger) Undo(ctx context.Context, s rollout.Step) rollout.Outcome {
	if len(s.Change.Was) == 0 {
		return rollout.AlreadyDone("nothing was changed")
	}
	var was took
	if err := json.Unmarshal(s.Change.Was, &was); err != nil {
		return rollout.Fail(fmt.Errorf("cannot read what was there before on %s: %w", s.Host, err))
	}
	word := words.Quote(was.Path)
	look := node.LookScript([]string{word}, "")
	now, err := m.lookAt(ctx, s, look+"sees\n")
	if err != nil {
		return rollout.Fail(fmt.Errorf("cannot look at %s on %s: %w", oneLine(was.Path), s.Host, err))
	}
	is := formerOf(now.File)
	if is == was.former {
		if s.SoFar[undoneNote] != "" {
			return rollout.Did("%s is %s again", oneLine(was.Path), is)
		}
		return rollout.AlreadyDone("%s is %s, as before", oneLine(was.Path), is)
	}
	if !was.After.like(is) && s.SoFar[undoneNote] == "" {
		return rollout.Fail(&rollout.Problem{
			Message: fmt.Sprintf("cannot put back %s on %s: it was left as %s, and is %s", oneLine(was.Path), s.Host, was.After, is),
			Hint:    "somebody changed it since: look at the host",
		})
	}
	if s.SoFar[undoneNote] == "" {
		return rollout.Intend(undoneNote, "y")
	}
	ops := was.back(now.Path)
	var b strings.Builder
	for _, o := range ops {
		b.WriteString(words.Quote(o...) + "\n")
	}
	now, err = m.lookAt(ctx, s, look+actFunctions+backFunctions+b.String()+"sees\n")
	if err != nil {
		return rollout.Fail(fmt.Errorf("cannot put back %s on %s: %w", oneLine(was.Path), s.Host, err))
	}
	switch is := formerOf(now.File); {
	case is == was.former:
		return rollout.Did("%s is %s again", oneLine(was.Path), is)
	case was.State == node.Absent && is.State == node.Directory:
		return rollout.Did("%s stays, since there is something in it", oneLine(was.Path))
	default:
		return rollout.Fail(fmt.Errorf("cannot put back %s on %s: it reads back as %s, not %s", oneLine(was.Path), s.Host, is, was.former))
	}
}

const undoneNote = "undone"

func (m converger) lookAt(ctx context.Context, s rollout.Step, script string) (node.Place, error) {
	res, err := run(ctx, m.hosts, s, sshexec.Command{Script: script, Timeout: lookTimeout})
	if err != nil {
		return node.Place{}, err
	}
	got, err := node.ParseLook(res)
	if err != nil {
		return node.Place{}, err
	}
	if len(got.Places) == 0 {
		return node.Place{}, fmt.Errorf("the node has not looked")
	}
	return got.Places[0], nil
}

// like reports whether a thing is of the kind, and holds what, a change has left.
func (f former) like(is former) bool {
	state := f.State
	if state == node.Hard {
		state = node.Regular
	}
	return state == is.State && (f.SHA256 == "" || f.SHA256 == is.SHA256) && (f.Link == "" || f.Link == is.Link)
}

// back are the calls that bring a path back to what was there.
func (t took) back(p string) []op {
	var out []op
	switch t.State {
	case node.Absent:
		if t.After.State == node.Directory {
			return []op{{"drop_dirs", or(t.Made, p), p}}
		}
		return []op{{"drop", p}}
	case node.Symlink:
		return []op{{"link", t.Link, p}, {"own", fmt.Sprintf("%d:%d", t.UID, t.GID), p}}
	case node.Directory:
		out = append(out, op{"directory", p})
	case node.Regular:
		if t.SHA256 != "" && t.SHA256 != t.After.SHA256 {
			out = append(out, op{"restore", t.SHA256, t.Kept, fmt.Sprint(t.UID), fmt.Sprint(t.GID), fmt.Sprintf("%04o", t.Mode), p})
		}
	}
	return append(out, op{"own", fmt.Sprintf("%d:%d", t.UID, t.GID), p}, op{"mode", fmt.Sprintf("%04o", t.Mode), p})
}

// backFunctions are what only an undo does.
const backFunctions = `
restore() { # restore DIGEST NAME OWNER GROUP MODE PATH
	is "$6" "$1" && return
	is "$kept/$2" "$1" || cannot "what was there is not kept any more as $kept/$2"
	put "$1" "$5" "$3" "$4" "$kept/$2" "$6"
	forget "$2"
}
directory() { # directory PATH
	[ -d "$1" ] && [ ! -L "$1" ] && return
	if [ -e "$1" ] || [ -L "$1" ]; then drop "$1"; fi
	mkdir -- "$1" || cannot "cannot make $1"
}
`
