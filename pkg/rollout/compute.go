package rollout

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Basis is what a plan has that neither the playbook nor a look at the fleet
// tells.
type Basis struct {
	CreatedAt    time.Time
	Fleetd       string
	Source       Source
	ControlPlane ControlPlane
}

// Compute says what would change. The tasks of a host are planned one after
// the other, each on the state that the ones before it will leave. It is an
// error only when the playbook names a module that is not there or a Diff
// fails for a reason that is no property of the host; what is wrong with a
// host is a Problem in the plan.
//
// A host with a problem anywhere is not touched at all: all its steps are
// dropped but one, which stands for the failure where the host first appears,
// so that the gate of that batch sees it.
func Compute(d Desired, observed map[string]Observation, modules map[string]Differ, b Basis) (Plan, error) {
	p := newPlan(b)
	for _, play := range d.Plays {
		pp := PlannedPlay{
			Name: play.Name, Position: play.Position, Strategy: play.Strategy, Batches: play.Batches,
			MaxFailPercentage: play.MaxFailPercentage, AnyErrorsFatal: play.AnyErrorsFatal, MaxUnavailable: play.MaxUnavailable,
			Blocks: play.Blocks,
		}
		for _, t := range play.Tasks {
			m, ok := modules[t.Module]
			if !ok {
				return Plan{}, fmt.Errorf("%s: there is no module %q", t.Position, t.Module)
			}
			about := m.About()
			pp.Tasks = append(pp.Tasks, PlannedTask{
				Name: t.Name, Module: t.Module, Position: t.Position, Become: t.Become,
				Register: t.Register, Facts: about.Facts, Gathers: about.Gathers, Uncounted: about.Uncounted, Manner: t.Manner, Notify: t.Notify, Handler: t.Handler,
				Steps: make(map[string]PlannedStep, len(t.Args)),
			})
		}
		p.Plays = append(p.Plays, pp)
	}
	u := newUnsure(d, modules)
	for _, host := range p.Hosts() {
		if err := planHost(&p, d, u, host, observed, modules); err != nil {
			return Plan{}, err
		}
	}
	return p, p.Seal()
}

func newPlan(b Basis) Plan {
	return Plan{Schema: PlanSchema, CreatedAt: b.CreatedAt, Fleetd: b.Fleetd, Source: b.Source, ControlPlane: b.ControlPlane}
}

// planHost fills in the steps of one host in all plays.
func planHost(p *Plan, d Desired, u unsure, host string, observed map[string]Observation, modules map[string]Differ) error {
	o := observed[host]
	problem := p.bind(host, o)
	state := o.State.Unread()
	if problem == nil {
		problem = p.bindDelegates(d, host, observed)
	}
	for pi, play := range d.Plays {
		if problem != nil {
			break
		}
		h := hostPlay{host: host, number: pi, play: play, modules: modules, unsure: u}
		steps, after, err := h.plan(state)
		if err != nil && !errors.As(err, &problem) {
			return err
		}
		if err != nil {
			problem = AsProblem(err)
			break
		}
		if problem = h.endsInBetween(steps); problem != nil {
			break
		}
		state = after
		for ti, s := range steps {
			if b, says := play.Tasks[ti].BecomeOn[host]; says {
				s.Become = &b
			}
			s.On, s.BecomeAs = play.Tasks[ti].On[host], play.Tasks[ti].BecomeAs[host]
			p.Plays[pi].Tasks[ti].Steps[host] = p.keep(s)
		}
	}
	if problem != nil {
		here := func(pi, ti int) bool { return d.Plays[pi].Tasks[ti].on(host) }
		p.refuse(host, problem, here)
	}
	return nil
}

// bindDelegates takes over what was seen of the machines on which tasks act for a
// host, and says why one of them cannot.
func (p *Plan) bindDelegates(d Desired, host string, observed map[string]Observation) *Problem {
	for _, play := range d.Plays {
		for _, t := range play.Tasks {
			on := t.On[host]
			if on == "" || !t.on(host) {
				continue
			}
			if problem := p.bind(on, observed[on]); problem != nil {
				return &Problem{
					Message: fmt.Sprintf("cannot do %q, which is delegated to %s: %s", t.Name, on, problem.Message), Hint: problem.Hint,
				}
			}
		}
	}
	return nil
}

// bind takes over what was seen of a host, and says why it cannot be planned.
func (p *Plan) bind(host string, o Observation) *Problem {
	if len(o.Identity) > 0 {
		if p.Bound == nil {
			p.Bound = map[string]map[string]string{}
		}
		p.Bound[host] = o.Identity
	}
	down := o.Down
	if o.Problem != nil && o.Problem.Unreachable {
		down = "is unreachable"
	}
	if down != "" {
		if p.Down == nil {
			p.Down = map[string]string{}
		}
		p.Down[host] = down
	}
	if o.Problem == nil && o.ControlPlane && !p.ControlPlane.Has(host) {
		return &Problem{
			Message: fmt.Sprintf("cannot touch %s: the cluster says that it carries the control plane, and the inventory's group kube_control_plane does not have it", host),
			Hint:    "add it to the group: fleetd takes the control plane out of service one host at a time, and counts etcd's quorum",
		}
	}
	return o.Problem
}

// refuse drops the steps of a host but the first, which stands for its problem.
func (p *Plan) refuse(host string, problem *Problem, here func(pi, ti int) bool) {
	first := true
	for pi := range p.Plays {
		for ti := range p.Plays[pi].Tasks {
			steps := p.Plays[pi].Tasks[ti].Steps
			delete(steps, host)
			if first && here(pi, ti) {
				steps[host] = PlannedStep{Change: Change{Action: NoOp, Summary: "not touched"}, Problem: problem}
				first = false
			}
		}
	}
}

// hostPlay plans one play on one host.
type hostPlay struct {
	host    string
	number  int // the play's
	play    Play
	modules map[string]Differ
	unsure  unsure
	idle    map[Guards]bool // what there is nothing of, so that its guards have nothing to do
}

// plan says what the play's tasks change, by task, and the state afterwards. A
// guard's step may matter to the ones behind it (a drained node has to be given
// work again), so where there is nothing to guard, the play is planned once more
// without the guard.
func (h hostPlay) plan(before State) (map[int]PlannedStep, State, error) {
	steps, after, err := h.diff(before)
	var problem *Problem
	if errors.As(err, &problem) {
		// A guard that cannot do its work is no problem where it has none.
		h.idle = map[Guards]bool{Disruptions: true}
		var again error
		if steps, after, again = h.diff(before); again == nil {
			if _, disruption := h.has(steps); disruption == "" {
				err = nil
			}
		}
	}
	if err != nil {
		return nil, nil, err
	}
	changes, disruption := h.has(steps)
	if h.onlyChecks() {
		changes = true // somebody has asked for them
	}
	if changes && disruption != "" {
		h.explain(steps, disruption)
		return steps, after, nil
	}
	h.idle = map[Guards]bool{Changes: !changes, Disruptions: disruption == ""}
	if steps, after, err = h.diff(before); err != nil {
		return nil, nil, err
	}
	if changes, _ := h.has(steps); !changes && !h.idle[Changes] && !h.onlyChecks() {
		h.idle[Changes] = true
		return h.diff(before)
	}
	return steps, after, nil
}

// onlyChecks reports whether all that the play has for the host are checks.
func (h hostPlay) onlyChecks() bool {
	for _, t := range h.play.Tasks {
		if t.on(h.host) && h.modules[t.Module].About().Guards != Changes {
			return false
		}
	}
	return true
}

func (h hostPlay) diff(before State) (map[int]PlannedStep, State, error) {
	steps := map[int]PlannedStep{}
	state := before
	var wrong []*Problem
	for ti, task := range h.play.Tasks {
		if !task.on(h.host) {
			continue
		}
		m := h.modules[task.Module]
		open := task.open(h.host)
		if open != nil && open.Late {
			action := m.About().Open
			if action == "" {
				return nil, nil, fmt.Errorf("%s: what %s does on %s would depend on what only the run tells (%s), and no review could say it; only its condition can",
					task.Position, task.Module, h.host, strings.Join(append(slices.Clone(open.Unknown), open.Loop...), ", "))
			}
			steps[ti] = PlannedStep{Change: Change{Action: action, Summary: open.Summary}, Open: open}
			continue
		}
		args := task.Args[h.host]
		if g := m.About().Guards; h.idle[g] {
			steps[ti] = PlannedStep{Change: Change{Action: NoOp, Summary: idleText[g]}}
			continue
		}
		on, seen := task.On[h.host], state
		if on != "" {
			if m.About().Open == "" {
				return nil, nil, fmt.Errorf("%s: %s cannot be delegated", task.Position, task.Module)
			}
			seen = nil // the state is another host's
		}
		change, after, err := m.Diff(h.host, seen, args)
		if err != nil {
			var problem *Problem
			switch {
			case errors.As(err, &problem) && m.About().Guards == Changes:
				// What a check finds leaves the state as it is: what else is wrong is
				// told as well, so that a host is mended in one go.
				wrong = append(wrong, AsProblem(err))
				continue
			case problem != nil:
				return nil, nil, together(append(wrong, AsProblem(err)))
			case len(wrong) > 0:
				return nil, nil, together(wrong)
			}
			return nil, nil, fmt.Errorf("%s: cannot plan %q on %s: %w", task.Position, task.Name, h.host, err)
		}
		if on == "" && !h.play.Blocks.Rescue(ti) {
			state = after // what a rescue does is not what will be
		}
		steps[ti] = PlannedStep{Change: change, Open: open}
		if h.unsure.of(h.host, h.number, ti) && m.About().Open == "" {
			steps[ti] = PlannedStep{Change: change, Open: open, Recheck: &Recheck{args}}
		}
	}
	if len(wrong) > 0 {
		return nil, nil, together(wrong)
	}
	return steps, state, nil
}

var idleText = map[Guards]string{
	Changes:     "nothing to check: this play changes nothing here",
	Disruptions: "not needed: this play does not take the host out of service",
}

// has says whether there is anything to guard: a change, and the summary of the
// first step that takes the host out of service by itself.
func (h hostPlay) has(steps map[int]PlannedStep) (changes bool, disruption string) {
	for ti, task := range h.play.Tasks {
		s, ok := steps[ti]
		if !ok || !s.Change.Action.Writes() {
			continue
		}
		guard := h.modules[task.Module].About().Guards == Disruptions
		if s.Change.Disruptive && !guard && disruption == "" {
			disruption = s.Change.Summary
		}
		changes = changes || !guard
	}
	return changes, disruption
}

// explain tells of a guard's step what it is there for.
func (h hostPlay) explain(steps map[int]PlannedStep, disruption string) {
	for ti, task := range h.play.Tasks {
		s, ok := steps[ti]
		if ok && s.Change.Action.Writes() && h.modules[task.Module].About().Guards == Disruptions {
			s.Change.Reasons = append(s.Change.Reasons, "a later step is to "+disruption)
			steps[ti] = s
		}
	}
}
