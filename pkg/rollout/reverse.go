package rollout

import "slices"

// Reverse is the plan that takes back what a run has done: the last play first,
// the last task first, every step that changed something or may have. Its steps
// are done by Undo; of an undo they are done by Do again. What was observed of
// the hosts says which of them can be reached, and binds the plan to them.
//
// hosts, if not nil, are those that it is limited to.
func Reverse(run string, r *Run, hosts []string, observed map[string]Observation, b Basis) (Plan, error) {
	p := newPlan(b)
	p.Undoes = run
	for pi, play := range slices.Backward(r.Plan.Plays) {
		back := PlannedPlay{
			Name: play.Name, Position: play.Position, Strategy: play.Strategy, Batches: limited(play.Batches, hosts),
			MaxFailPercentage: play.MaxFailPercentage, AnyErrorsFatal: play.AnyErrorsFatal, MaxUnavailable: play.MaxUnavailable,
		}
		any := false
		for ti, task := range slices.Backward(play.Tasks) {
			steps := map[string]PlannedStep{}
			for host := range back.hosts() {
				id := StepID{pi, ti, host}
				if s := r.Step(id); s != nil && s.mayHaveChanged(task.Steps[host].Change) {
					change, err := r.Plan.back(task.Steps[host], s)
					if err != nil {
						return p, err
					}
					steps[host] = p.keep(PlannedStep{Change: change, Become: task.Steps[host].Become, BecomeAs: task.Steps[host].BecomeAs, On: task.Steps[host].On})
				}
			}
			if len(steps) == 0 {
				continue
			}
			any = true
			back.Tasks = append(back.Tasks, PlannedTask{
				Name: task.Name, Module: task.Module, Position: task.Position, Become: task.Become, Undo: !task.Undo, Steps: steps,
			})
		}
		if any {
			p.Plays = append(p.Plays, back)
		}
	}
	for _, host := range p.Hosts() {
		if problem := p.bind(host, observed[host]); problem != nil {
			p.refuse(host, problem, func(pi, ti int) bool { _, ok := p.Plays[pi].Tasks[ti].Steps[host]; return ok })
		}
	}
	return p, p.Seal()
}

// mayHaveChanged reports whether a step's change has to be taken back. One that
// was begun and has no good end may have made it; so may an earlier attempt of
// one that then found it made.
func (s *StepState) mayHaveChanged(c Change) bool {
	if !c.Action.Writes() {
		return false
	}
	return s.Outcome.Kind != Unchanged && s.Outcome.Kind != Skipped || s.Attempts > 1
}

// limited are batches without the hosts that are not among those given.
func limited(batches [][]string, hosts []string) [][]string {
	if hosts == nil {
		return batches
	}
	var out [][]string
	for _, b := range batches {
		kept := slices.DeleteFunc(slices.Clone(b), func(h string) bool { return !slices.Contains(hosts, h) })
		if len(kept) > 0 {
			out = append(out, kept)
		}
	}
	return out
}
