package rollout

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Contents are what files are to hold, by their SHA-256 in hex.
type Contents map[string][]byte

// MostContent bounds a file that a plan holds, in bytes: it is in the plan, in the
// journal, and in memory for as long as the run lasts.
const MostContent = 4 << 20

// DigestOf is the name of a content among Contents.
func DigestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// keep moves what files of the step are to hold into the plan.
func (p *Plan) keep(s PlannedStep) PlannedStep {
	more := Contents{}
	s.Change.hold(more)
	for i := range s.Change.Items {
		s.Change.Items[i].hold(more)
	}
	if s.Open != nil {
		maps.Copy(more, s.Open.Contents)
	}
	if len(more) > 0 && p.Contents == nil {
		p.Contents = Contents{}
	}
	maps.Copy(p.Contents, more)
	return s
}

// hold moves what a file is to hold among the contents.
func (c *Change) hold(more Contents) {
	if c.Content != nil {
		c.Digest = DigestOf(c.Content)
		more[c.Digest], c.Content = c.Content, nil
	}
}

// WithContent is a change of the plan with what its file is to hold.
func (p *Plan) WithContent(c Change) Change {
	if c.Digest != "" && c.Content == nil {
		c.Content = p.Contents[c.Digest]
	}
	return c
}

// Notes of steps that the core knows.
const (
	// ResolvedNote keeps the change that an open step turned out to be, as a
	// ResolvedChange.
	ResolvedNote = "fleetd.resolved"
	// WasNote keeps what a step found before it changed anything. An undo gets it as
	// Change.Was.
	WasNote = "was"
	// ItemNotes begin the notes that keep how an item of a loop ended, each as an
	// ItemEnd, by its number from 0.
	ItemNotes = "fleetd.item."
)

// ItemEnd is how one item of a loop ended, with what an undo needs of it.
type ItemEnd struct {
	Outcome
	// Resolved and Was are the notes of these names.
	Resolved string `json:"resolved,omitempty"`
	Was      string `json:"was,omitempty"`
}

// ResolvedChange is a change that was made in the run, with the content that no plan
// has.
type ResolvedChange struct {
	Change
	Inline []byte `json:"inline,omitempty"`
}

// Resolved writes down a change that was made in the run.
func (p *Plan) Resolved(c Change) (string, error) {
	r := ResolvedChange{Change: c}
	if c.Content != nil {
		r.Digest = DigestOf(c.Content)
		if _, have := p.Contents[r.Digest]; !have {
			r.Inline = c.Content
		}
	}
	raw, err := json.Marshal(r)
	return string(raw), err
}

// ReadResolved reads what Resolved wrote, with its content.
func (p *Plan) ReadResolved(note string) (Change, error) {
	var r ResolvedChange
	if err := json.Unmarshal([]byte(note), &r); err != nil {
		return Change{}, err
	}
	if r.Digest == DigestOf(r.Inline) {
		r.Content = append([]byte{}, r.Inline...)
	}
	return p.WithContent(r.Change), nil
}

// back is the change that takes back what a step did.
func (p *Plan) back(planned PlannedStep, s *StepState) (Change, error) {
	c := planned.Change
	if o := planned.Open; len(c.Items) > 0 || o != nil && len(o.Loop) > 0 && c.Action != Exec {
		return p.itemsBack(c, s)
	}
	return p.takenBack(c, s.SoFar[ResolvedNote], s.SoFar[WasNote])
}

// takenBack is the change that takes back one that was planned or, where there is a
// note of that, made in the run.
func (p *Plan) takenBack(c Change, resolved, was string) (Change, error) {
	if resolved != "" && c.Action != Exec {
		var err error
		if c, err = p.ReadResolved(resolved); err != nil {
			return c, fmt.Errorf("cannot read what a step was to do: %w", err)
		}
	}
	out := c.Reversed()
	out.Content = p.WithContent(c).Content
	if was != "" && json.Valid([]byte(was)) {
		out.Was = json.RawMessage(was)
	}
	return out, nil
}

// itemsBack takes back what the items of a loop did, the last first, or, of an undo of
// that, does it again. The item that the run was cut off in has no end yet.
func (p *Plan) itemsBack(c Change, s *StepState) (Change, error) {
	var items []Change
	add := func(n int, e ItemEnd) error {
		was := c
		if len(c.Items) > 0 {
			was = c.Items[n]
		} else if e.Resolved == "" {
			return nil // it has changed nothing
		}
		back, err := p.takenBack(was, e.Resolved, e.Was)
		items = append(items, back)
		return err
	}
	n := 0
	for ; ; n++ {
		note, ended := s.SoFar[fmt.Sprint(ItemNotes, n)]
		if !ended {
			break
		}
		var e ItemEnd
		if err := json.Unmarshal([]byte(note), &e); err != nil {
			return c, fmt.Errorf("cannot read how an item ended: %w", err)
		}
		if e.Kind == Unchanged || e.Kind == Skipped {
			continue
		}
		if err := add(n, e); err != nil {
			return c, err
		}
	}
	if n < len(c.Items) || len(c.Items) == 0 {
		if err := add(n, ItemEnd{Resolved: s.SoFar[ResolvedNote], Was: s.SoFar[WasNote]}); err != nil {
			return c, err
		}
	}
	slices.Reverse(items)
	out := c.Reversed()
	if out.Items = items; len(items) == 0 {
		out.Action, out.Summary = ReadOnly, "nothing was changed by: "+c.Summary
	}
	return out, nil
}
