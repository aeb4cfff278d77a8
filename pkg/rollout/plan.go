package rollout

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// PlanSchema names the version of the plan's JSON form. It changes when a
// field changes its meaning or goes; a new field does not change it.
const PlanSchema = "fleetd.io/plan/v1"

// Plan is what would be done, in full: apply is described by it and by nothing
// else. It is plain data, saved as JSON.
type Plan struct {
	Schema string `json:"schema"`
	// Digest is the SHA-256 of everything that will be done (Plays and
	// ControlPlane, not Source). Two plans with one digest do the same.
	Digest string `json:"digest"`
	Source Source `json:"source"`
	// ControlPlane are the hosts of which at most one may be out of service.
	ControlPlane []string      `json:"control_plane,omitempty"`
	Plays        []PlannedPlay `json:"plays"`
}

// Source says what a plan was computed from, so that apply can look again.
type Source struct {
	CreatedAt   time.Time `json:"created_at"`
	Fleetd      string    `json:"fleetd"`
	Inventories []string  `json:"inventories"`
	Playbook    string    `json:"playbook"`
	Limit       []string  `json:"limit,omitempty"`
	ExtraVars   []string  `json:"extra_vars,omitempty"`
	Kubeconfig  string    `json:"kubeconfig,omitempty"`
}

// PlannedPlay is a play with its changes.
type PlannedPlay struct {
	Name              string        `json:"name"`
	Position          Position      `json:"position"`
	Strategy          Strategy      `json:"strategy"`
	Batches           [][]string    `json:"batches"`
	MaxFailPercentage *float64      `json:"max_fail_percentage,omitempty"`
	AnyErrorsFatal    bool          `json:"any_errors_fatal,omitempty"`
	Tasks             []PlannedTask `json:"tasks"`
}

// PlannedTask is a task with its change on each host. A host without an entry
// is skipped.
type PlannedTask struct {
	Name     string                 `json:"name"`
	Module   string                 `json:"module"`
	Position Position               `json:"position"`
	Become   bool                   `json:"become,omitempty"`
	Steps    map[string]PlannedStep `json:"steps"`
}

// PlannedStep is one change on one host, or why the host cannot be changed.
type PlannedStep struct {
	Change  Change   `json:"change"`
	Problem *Problem `json:"problem,omitempty"`
}

// Step returns what is planned for id.
func (p *Plan) Step(id StepID) (PlannedStep, bool) {
	if id.Play < 0 || id.Play >= len(p.Plays) || id.Task < 0 || id.Task >= len(p.Plays[id.Play].Tasks) {
		return PlannedStep{}, false
	}
	s, ok := p.Plays[id.Play].Tasks[id.Task].Steps[id.Host]
	return s, ok
}

// Task returns the task that id names.
func (p *Plan) Task(id StepID) PlannedTask { return p.Plays[id.Play].Tasks[id.Task] }

// Each calls f for every planned step in the order play, task, host of the
// play, until f returns false.
func (p *Plan) Each(f func(StepID, PlannedStep) bool) {
	for pi, play := range p.Plays {
		for ti, task := range play.Tasks {
			for _, batch := range play.Batches {
				for _, h := range batch {
					if s, ok := task.Steps[h]; ok && !f(StepID{pi, ti, h}, s) {
						return
					}
				}
			}
		}
	}
}

// Changes counts the steps that write.
func (p *Plan) Changes() (n int) {
	p.Each(func(_ StepID, s PlannedStep) bool {
		if s.Problem == nil && s.Change.Action.Writes() {
			n++
		}
		return true
	})
	return n
}

// HostProblem is a host that cannot be changed, and why.
type HostProblem struct {
	Host string
	Problem
}

// Problems lists the hosts that cannot be changed, in the plan's order.
func (p *Plan) Problems() []HostProblem {
	var out []HostProblem
	p.Each(func(id StepID, s PlannedStep) bool {
		if s.Problem != nil {
			out = append(out, HostProblem{id.Host, *s.Problem})
		}
		return true
	})
	return out
}

// Hosts lists every host of the plan once, in order of appearance.
func (p *Plan) Hosts() []string {
	var out []string
	seen := map[string]bool{}
	for _, play := range p.Plays {
		for _, b := range play.Batches {
			for _, h := range b {
				if !seen[h] {
					seen[h] = true
					out = append(out, h)
				}
			}
		}
	}
	return out
}

// seal computes the digest.
func (p *Plan) seal() error {
	raw, err := json.Marshal(struct {
		ControlPlane []string
		Plays        []PlannedPlay
	}{p.ControlPlane, p.Plays})
	if err != nil {
		return fmt.Errorf("cannot encode the plan: %w", err)
	}
	sum := sha256.Sum256(raw)
	p.Digest = hex.EncodeToString(sum[:])
	return nil
}

// ReadPlan decodes a saved plan and checks that it is whole: the schema is one
// that this fleetd knows and the digest is that of the contents, so that an
// edited plan is not mistaken for a reviewed one.
func ReadPlan(raw []byte) (Plan, error) {
	var p Plan
	if err := json.Unmarshal(raw, &p); err != nil {
		return Plan{}, fmt.Errorf("not a fleetd plan: %w", err)
	}
	if p.Schema != PlanSchema {
		return Plan{}, fmt.Errorf("plan schema is %q, this fleetd reads %q", p.Schema, PlanSchema)
	}
	want := p.Digest
	if err := p.seal(); err != nil {
		return Plan{}, err
	}
	if p.Digest != want {
		return Plan{}, fmt.Errorf("the plan was changed after it was made: its digest is %.12s, its contents give %.12s", want, p.Digest)
	}
	return p, nil
}

// IsControlPlane reports whether host is one of the control plane.
func (p *Plan) IsControlPlane(host string) bool { return slices.Contains(p.ControlPlane, host) }
