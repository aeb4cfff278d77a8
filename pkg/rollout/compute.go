package rollout

import (
	"errors"
	"fmt"
)

// Compute says what would change. The tasks of a host are planned one after
// the other, each on the state that the ones before it will leave. It is an
// error only when the playbook names a module that is not there or a Diff
// fails for a reason that is no property of the host; what is wrong with a
// host is a Problem in the plan.
//
// A host with a problem anywhere is not touched at all: all its steps are
// dropped but one, which stands for the failure where the host first appears,
// so that the gate of that batch sees it.
func Compute(d Desired, observed map[string]Observation, modules map[string]Differ, controlPlane []string) (Plan, error) {
	p := Plan{Schema: PlanSchema, ControlPlane: controlPlane}
	for _, play := range d.Plays {
		pp := PlannedPlay{
			Name: play.Name, Position: play.Position, Strategy: play.Strategy, Batches: play.Batches,
			MaxFailPercentage: play.MaxFailPercentage, AnyErrorsFatal: play.AnyErrorsFatal,
		}
		for _, t := range play.Tasks {
			if _, ok := modules[t.Module]; !ok {
				return Plan{}, fmt.Errorf("%s: there is no module %q", t.Position, t.Module)
			}
			pp.Tasks = append(pp.Tasks, PlannedTask{
				Name: t.Name, Module: t.Module, Position: t.Position, Become: t.Become,
				Steps: make(map[string]PlannedStep, len(t.Args)),
			})
		}
		p.Plays = append(p.Plays, pp)
	}
	for _, host := range p.Hosts() {
		if err := planHost(&p, d, host, observed[host], modules); err != nil {
			return Plan{}, err
		}
	}
	for _, play := range p.Plays {
		dropIdleChecks(play)
	}
	return p, p.seal()
}

// planHost fills in the steps of one host in all plays.
func planHost(p *Plan, d Desired, host string, o Observation, modules map[string]Differ) error {
	problem := o.Problem
	state := o.State
	for pi, play := range d.Plays {
		for ti, task := range play.Tasks {
			args, ok := task.Args[host]
			if !ok || problem != nil {
				continue
			}
			change, after, err := modules[task.Module].Diff(host, state, args)
			if err != nil && !errors.As(err, &problem) {
				return fmt.Errorf("%s: cannot plan %q on %s: %w", task.Position, task.Name, host, err)
			}
			if problem != nil {
				problem = AsProblem(err)
				continue
			}
			state = after
			p.Plays[pi].Tasks[ti].Steps[host] = PlannedStep{Change: change}
		}
	}
	if problem == nil {
		return nil
	}
	first := true
	for pi, play := range d.Plays {
		for ti, task := range play.Tasks {
			delete(p.Plays[pi].Tasks[ti].Steps, host)
			if _, ok := task.Args[host]; ok && first {
				p.Plays[pi].Tasks[ti].Steps[host] = PlannedStep{Change: Change{Action: NoOp, Summary: "not touched"}, Problem: problem}
				first = false
			}
		}
	}
	return nil
}

// dropIdleChecks turns the checks of a host that the play does not change into
// no-ops: there is nothing that they would guard.
func dropIdleChecks(play PlannedPlay) {
	writes := map[string]bool{}
	for _, t := range play.Tasks {
		for h, s := range t.Steps {
			writes[h] = writes[h] || s.Change.Action.Writes()
		}
	}
	for _, t := range play.Tasks {
		for h, s := range t.Steps {
			if s.Change.Action == ReadOnly && !writes[h] {
				s.Change = Change{Action: NoOp, Summary: "nothing to check: this play changes nothing here"}
				t.Steps[h] = s
			}
		}
	}
}
