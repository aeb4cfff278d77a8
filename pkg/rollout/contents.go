package rollout

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
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
	if s.Change.Content != nil {
		s.Change.Digest = DigestOf(s.Change.Content)
		more[s.Change.Digest] = s.Change.Content
		s.Change.Content = nil
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
)

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
	if o := planned.Open; o != nil && o.Late && c.Action != Exec {
		if len(o.Loop) > 0 {
			// Each item has a change of its own, and only its end is kept.
			c.Action = Exec
			return c.Reversed(), nil
		}
		if note, resolved := s.SoFar[ResolvedNote]; resolved {
			var err error
			if c, err = p.ReadResolved(note); err != nil {
				return c, fmt.Errorf("cannot read what a step was to do: %w", err)
			}
		}
	}
	out := c.Reversed()
	out.Content = p.WithContent(c).Content
	if was := s.SoFar[WasNote]; was != "" && json.Valid([]byte(was)) {
		out.Was = json.RawMessage(was)
	}
	return out, nil
}
