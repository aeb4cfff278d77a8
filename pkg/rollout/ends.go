package rollout

import "fmt"

// over reports whether a play has come to its end for the host at a place before a
// task of it. A play that ended in another batch has ended before its first task.
func (r *Run) over(pi, place, task int) bool {
	x := &r.index.plays[pi]
	for _, ti := range x.ends {
		t := &r.Plan.Plays[pi].Tasks[ti]
		if by := r.doer(pi, ti, place); ti < task && by >= 0 && r.didEnd(pi, ti, by) {
			return true
		}
		if t.Ends != EndsPlay {
			continue
		}
		for bi := range x.batch[place] {
			if by, ok := r.once[onceID{pi, ti, bi}]; ok && r.didEnd(pi, ti, by) {
				return true
			}
		}
	}
	return false
}

// didEnd reports whether the host at a place has brought something to its end with a
// task, and not left it out.
func (r *Run) didEnd(pi, ti, place int) bool {
	return r.steps[pi][ti][place].Outcome.Kind == Unchanged
}

// mayEnd are the hosts whose play a task may end, as only the run tells.
func (t Task) mayEnd(play *Play, ti int) map[string]bool {
	if t.Ends == "" || len(t.Open) == 0 && (t.Ends == EndsHost || len(t.Args) == 0) && play.Blocks.Part(ti) == "" {
		return nil
	}
	out := map[string]bool{}
	for _, b := range play.Batches {
		for _, h := range b {
			if t.Ends != EndsHost || t.on(h) {
				out[h] = true
			}
		}
	}
	return out
}

// endsInBetween refuses a play that may end for the host after a step that takes it
// out of service: nobody would put it back.
func (h hostPlay) endsInBetween(steps map[int]PlannedStep) *Problem {
	out := -1
	for ti, t := range h.play.Tasks {
		if s, ok := steps[ti]; ok && s.Change.Disruptive {
			out = ti
		}
		if t.Ends == "" || out < 0 || t.Ends == EndsHost && !t.on(h.host) || len(t.Args)+len(t.Open) == 0 {
			continue
		}
		return &Problem{
			Message: fmt.Sprintf("cannot end the play for %s at %s: %q before it takes the host out of service, and nothing would put it back", h.host, t.Position, h.play.Tasks[out].Name),
			Hint:    "put the end before that task, or into a play of its own",
		}
	}
	return nil
}
