package module

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// diffOf is the change that a wish is on a host, as far as its facts tell.
func diffOf(name, host string, before rollout.State, w wish, content []byte, err error) (rollout.Change, rollout.State, error) {
	var p *rollout.Problem
	if errors.As(err, &p) {
		p.Message = fmt.Sprintf("cannot plan %s on %s: %s", name, host, p.Message)
		return rollout.Change{}, nil, p
	}
	if err != nil {
		return rollout.Change{}, nil, err
	}
	c := rollout.Change{Action: rollout.Update, Summary: w.summary(name, w.Path), Content: content, Back: w.back()}
	facts, err := node.Section.Get(before)
	sc, sure := w.sceneOf(facts)
	switch {
	case before == nil:
		// The run looks.
	case err != nil:
		return rollout.Change{}, nil, err
	case !sure:
		c.Reasons = append(c.Reasons, "what is there is looked at in the run")
		if before, err = unsure(before); err != nil {
			return rollout.Change{}, nil, err
		}
	default:
		if before, err = w.foresee(name, &c, before, facts, sc, content); err != nil {
			return rollout.Change{}, nil, err
		}
		w.Before = nil
		if d, err := decide(w, sc); err == nil {
			was := formerOf(d.at.File)
			w.Before = &was
		}
	}
	raw, err := json.Marshal(w)
	if err != nil {
		return rollout.Change{}, nil, fmt.Errorf("cannot encode the change: %w", err)
	}
	c.Data = raw
	return c, before, nil
}

// foresee fills in what the facts tell of the change, and says what they are after
// it.
func (w wish) foresee(name string, c *rollout.Change, before rollout.State, facts node.Facts, sc scene, content []byte) (rollout.State, error) {
	d, err := decide(w, sc)
	if err != nil {
		c.Risks = append(c.Risks, "as the host is now, this fails: "+oneLine(err.Error()))
		return unsure(before)
	}
	c.Summary = w.summary(name, d.at.Path)
	if !d.changed {
		c.Action, c.Content, c.Back = rollout.ReadOnly, nil, ""
		c.Summary = name + ": " + oneLine(d.at.Path) + " is as it should be"
		return before, nil
	}
	c.Action, c.Fields = d.action(), d.fields
	if !d.content {
		c.Content = nil
	} else if d.open() {
		c.Diff = unified(facts.Texts[d.at.Path], d.at.File, content)
	}
	for _, l := range d.lost {
		c.Risks = append(c.Risks, "nothing brings back "+oneLine(l))
	}
	return node.Section.With(before, touched(facts, d.at)), nil
}

// open reports whether anybody may read the file, before and after: what is in
// others is shown to nobody.
func (d *decision) open() bool {
	after := d.means[d.at.Path]
	return d.at.Self != nil && d.at.Self.Perm()&4 != 0 && (d.Mode == "" || after&4 != 0)
}

func (d *decision) action() rollout.Action {
	for _, o := range d.ops {
		switch o[0] {
		case "drop", "drop_tree":
			return rollout.Delete
		case "put", "make_dirs", "create", "link", "hard":
			if d.at.State() == node.Absent {
				return rollout.Create
			}
			return rollout.Replace
		}
	}
	return rollout.Update
}

// summary is the call on one line.
func (w wish) summary(name, p string) string {
	out := name + ": " + oneLine(p)
	switch {
	case w.State == contentState && w.Src != "":
		return out + " is a copy of " + oneLine(w.Src)
	case w.State == contentState && w.Content.Origin != "":
		return out + " holds " + oneLine(w.Content.Origin)
	case w.State == contentState:
		return fmt.Sprintf("%s holds %d bytes", out, w.Content.Size)
	case w.State == node.Absent:
		return out + " is absent"
	case w.State == node.Symlink:
		return out + " is a link to " + oneLine(w.Src)
	case w.State == node.Hard:
		return out + " is a hard link to " + oneLine(w.Src)
	case w.State == "touch":
		return out + " is touched"
	case w.State == node.Directory:
		return out + " is a directory"
	}
	return out + " has its attributes"
}

// back says how it is taken back.
func (w wish) back() string {
	p := oneLine(w.Path)
	switch {
	case w.State == contentState, w.State == node.Absent, w.State == node.Symlink, w.State == node.Hard:
		return fmt.Sprintf("put back what was at %s; a file that is replaced is kept on the node in %s", p, keptDir)
	case w.State == node.Directory:
		return fmt.Sprintf("give %s its owner and mode again; a folder that was made goes where it is empty", p)
	}
	return fmt.Sprintf("give %s its owner and mode again; one that was made goes", p)
}

// mostDiff bounds the lines of a difference in a plan.
const mostDiff = 40

// unified is what changes in a small text.
func unified(was []byte, there node.File, is []byte) []string {
	if there.SHA256 == "" || rollout.DigestOf(was) != there.SHA256 || bytes.ContainsRune(append(bytes.Clone(was), is...), 0) || len(is) > 32<<10 {
		return nil
	}
	_, text, _ := strings.Cut(string(diff.Diff("", []byte(printed(was)), "", []byte(printed(is)))), "\n+++ \n")
	var out []string
	for l := range strings.Lines(text) {
		if len(out) == mostDiff {
			return append(out, "…")
		}
		out = append(out, strings.TrimRight(l, "\r\n"))
	}
	return out
}
