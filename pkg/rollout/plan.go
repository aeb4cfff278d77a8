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
const PlanSchema = "fleetd.io/plan/v2"

// Plan is what would be done, in full: apply is described by it and by nothing
// else. It is plain data, saved as JSON.
type Plan struct {
	Schema string `json:"schema"`
	// Digest is the SHA-256 of everything below Fleetd but the notes of changes. Two
	// plans with one digest do the same, to the same machines.
	Digest string `json:"digest"`
	// CreatedAt and Fleetd say when and by which version the plan was made.
	CreatedAt time.Time `json:"created_at"`
	Fleetd    string    `json:"fleetd"`

	Source Source `json:"source"`
	// Undoes is the run that the plan takes back; "" for a plan of a playbook.
	Undoes string `json:"undoes,omitempty"`
	// Bound is what tells each machine and the cluster from every other, by host:
	// address, host key, machine-id, the cluster's UID.
	Bound map[string]map[string]string `json:"bound,omitempty"`
	// Down are the hosts that were out of service when they were looked at, and
	// why. They count against every budget.
	Down map[string]string `json:"down,omitempty"`
	// ControlPlane are the hosts of which at most one may be out of service.
	ControlPlane ControlPlane  `json:"control_plane,omitzero"`
	Plays        []PlannedPlay `json:"plays"`
	// Contents are what files are to hold.
	Contents Contents `json:"contents,omitempty"`
}

// Source says what a plan was computed from, so that apply can look again.
type Source struct {
	Inventories []string `json:"inventories"`
	Playbook    string   `json:"playbook"`
	Limit       []string `json:"limit,omitempty"`
	Tags        []string `json:"tags,omitempty"`
	SkipTags    []string `json:"skip_tags,omitempty"`
	StartAtTask string   `json:"start_at_task,omitempty"`
	ExtraVars   []string `json:"extra_vars,omitempty"`
	Kubeconfig  string   `json:"kubeconfig,omitempty"`
	KubeVia     string   `json:"kube_via,omitempty"`
	// Files are the SHA-256 of every file that was read for it, by path.
	Files map[string]string `json:"files,omitempty"`
}

// PlannedPlay is a play with its changes.
type PlannedPlay struct {
	Name              string     `json:"name"`
	Position          Position   `json:"position"`
	Strategy          Strategy   `json:"strategy"`
	Batches           [][]string `json:"batches"`
	MaxFailPercentage *float64   `json:"max_fail_percentage,omitempty"`
	AnyErrorsFatal    bool       `json:"any_errors_fatal,omitempty"`
	// MaxUnavailable is how many hosts of the play may be out of service at once,
	// those that were so before included. 0 = as many as a batch has.
	MaxUnavailable int           `json:"max_unavailable,omitempty"`
	Blocks         Blocks        `json:"blocks,omitempty"`
	Tasks          []PlannedTask `json:"tasks"`
}

// PlannedTask is a task with its change on each host. A host without an entry
// is skipped.
type PlannedTask struct {
	Name     string   `json:"name"`
	Module   string   `json:"module"`
	Position Position `json:"position"`
	Become   bool     `json:"become,omitempty"`
	// Undo is set when the module is asked to take the changes back.
	Undo bool `json:"undo,omitempty"`
	// Register is the variable that takes the task's result, Facts is set where
	// the result is variables itself.
	Register string `json:"register,omitempty"`
	Facts    bool   `json:"facts,omitempty"`
	// Gathers is set where they are what the host says of itself.
	Gathers bool `json:"gathers,omitempty"`
	// Uncounted is set where a recap leaves the steps out.
	Uncounted bool `json:"uncounted,omitempty"`
	Manner
	// Notify are the handlers that a change of the task calls: tasks behind it whose
	// steps are open. Handler is the number of a handler; where it stands in several
	// places of its play, it is one.
	Notify  []string               `json:"notify,omitempty"`
	Handler int                    `json:"handler,omitempty"`
	Steps   map[string]PlannedStep `json:"steps"`
}

// PlannedStep is one change on one host, or why the host cannot be changed.
type PlannedStep struct {
	Change  Change   `json:"change"`
	Problem *Problem `json:"problem,omitempty"`
	// Become is set where the host says otherwise than its task whether to act as
	// another user.
	Become *bool `json:"become,omitempty"`
	// BecomeAs is whom to become, and how, where it is not the host's own setting.
	BecomeAs BecomeAs `json:"become_as,omitzero"`
	// On is the host that the step acts on where it is another one (delegate_to).
	On string `json:"on,omitempty"`
	// Recheck is set where the step is planned anew before it is done.
	Recheck *Recheck `json:"recheck,omitempty"`
	// Open is what of the step only the run tells.
	Open *Open `json:"open,omitempty"`
}

// Where is the host that a step of a host acts on.
func (s PlannedStep) Where(host string) string {
	if s.On != "" {
		return s.On
	}
	return host
}

// Becomes reports whether the step acts as another user.
func (p *Plan) Becomes(id StepID) bool {
	if s, ok := p.Step(id); ok && s.Become != nil {
		return *s.Become
	}
	return p.Task(id).Become
}

// Counts reports whether a planned step has to be executed: it writes, checks, is
// looked at again, or stands for a failure.
func (s PlannedStep) Counts() bool {
	return s.Problem != nil || s.Change.Action != NoOp || s.Recheck != nil
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
func (p *Plan) Each(f func(id StepID, s PlannedStep) bool) {
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

// Changes counts the steps that write, but for those that stand by.
func (p *Plan) Changes() (n int) {
	p.Each(func(id StepID, s PlannedStep) bool {
		if s.Problem == nil && s.Change.Action.Writes() && !p.Standby(id) {
			n++
		}
		return true
	})
	return n
}

// Steps counts what is to be done: the steps that write, and the checks, without
// those that stand by.
func (p *Plan) Steps() (n int) {
	p.Each(func(id StepID, s PlannedStep) bool {
		if s.Problem == nil && s.Counts() && !p.Standby(id) {
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
		for h := range play.hosts() {
			if !seen[h] {
				seen[h] = true
				out = append(out, h)
			}
		}
	}
	return out
}

// hosts are those of all batches, in order.
func (p *PlannedPlay) hosts() func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, b := range p.Batches {
			for _, h := range b {
				if !yield(h) {
					return
				}
			}
		}
	}
}

// Seal computes the digest, once nothing of the plan changes any more. The steps
// are hashed one by one, in the order of the batches: written down at once, those
// of 100,000 hosts would fill memory.
func (p *Plan) Seal() error {
	sum := sha256.New()
	enc := json.NewEncoder(sum)
	bare := *p
	bare.Digest, bare.CreatedAt, bare.Fleetd = "", time.Time{}, ""
	bare.Plays = slices.Clone(p.Plays)
	for pi := range bare.Plays {
		bare.Plays[pi].Tasks = slices.Clone(p.Plays[pi].Tasks)
		for ti := range bare.Plays[pi].Tasks {
			bare.Plays[pi].Tasks[ti].Steps = nil
		}
	}
	if err := enc.Encode(bare); err != nil {
		return fmt.Errorf("cannot encode the plan: %w", err)
	}
	for _, play := range p.Plays {
		for _, task := range play.Tasks {
			// A step of a host that no batch has would be told by the number.
			fmt.Fprintln(sum, len(task.Steps))
			for host := range play.hosts() {
				step, ok := task.Steps[host]
				if !ok {
					continue
				}
				step.Change.Note = ""
				if err := enc.Encode(sealedStep{host, step}); err != nil {
					return fmt.Errorf("cannot encode the step of %s in %s: %w", host, task.Name, err)
				}
			}
		}
	}
	p.Digest = hex.EncodeToString(sum.Sum(nil))
	return nil
}

type sealedStep struct {
	Host string `json:"host"`
	PlannedStep
}

// IsPlan reports whether raw is a plan's JSON, of whatever schema and however it
// is laid out.
func IsPlan(raw []byte) bool {
	var head struct {
		Schema string `json:"schema"`
	}
	return json.Unmarshal(raw, &head) == nil && len(head.Schema) > len(schemaFamily) && head.Schema[:len(schemaFamily)] == schemaFamily
}

const schemaFamily = "fleetd.io/plan/"

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
	if err := p.Seal(); err != nil {
		return Plan{}, err
	}
	if p.Digest != want {
		return Plan{}, fmt.Errorf("the plan was changed after it was made: its digest is %.12s, its contents give %.12s", want, p.Digest)
	}
	return p, nil
}

// ControlPlane is what must not lose its quorum.
type ControlPlane struct {
	// Hosts are the inventory's control-plane hosts. At most one of them is taken
	// out of service at a time.
	Hosts []string `json:"hosts,omitempty"`
	// Members are the voters of etcd, where they are known. Without any, the hosts
	// are taken for them.
	Members []Member `json:"members,omitempty"`
}

// Member is one voter.
type Member struct {
	// Name is the host's, or the Node's where no host of the inventory is it.
	Name string `json:"name"`
	// Down says why it does not vote; "" = it does.
	Down string `json:"down,omitempty"`
}

// Has reports whether host is one of the control plane.
func (c ControlPlane) Has(host string) bool { return slices.Contains(c.Hosts, host) }

// Quorum is how many of n voters must be healthy (etcd.io, FAQ: (n/2)+1).
func Quorum(n int) int { return n/2 + 1 }

// Spare reports whether etcd keeps its quorum without the member of that name:
// how many others vote, and which do not. Where all others do, it may be spared: one or two
// members have no quorum to spare, so while one of them reboots the API server is
// away, whatever the order. A second one that is down is refused.
func Spare(members []Member, name string) (serving int, down []Member, ok bool) {
	for _, m := range members {
		switch {
		case m.Name == name:
		case m.Down != "":
			down = append(down, m)
		default:
			serving++
		}
	}
	return serving, down, len(down) == 0 || serving >= Quorum(len(members))
}
