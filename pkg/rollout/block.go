package rollout

import "slices"

// Blocks are those of a play that have rescue or always, outer ones first.
type Blocks []Block

// Block is a block of tasks with rescue or always, by the numbers of its play's
// tasks: those of the block from Start on, those of rescue from Rescue, those of
// always from Always, up to End. An empty rescue is none. Blocks within blocks lie
// within one part of theirs.
//
// As in Ansible (playbook_guide/playbooks_blocks): where a task of the block fails
// on a host the host goes on with rescue, and has not failed if that ends well;
// always is done in any case. A host that cannot be reached does neither.
type Block struct {
	Start  int `json:"start"`
	Rescue int `json:"rescue"`
	Always int `json:"always"`
	End    int `json:"end"`
}

// Part is where a task stands in a block.
type Part string

const (
	InBlock  Part = "block"
	InRescue Part = "rescue"
	InAlways Part = "always"
)

func (b Block) part(ti int) Part {
	switch {
	case ti < b.Rescue:
		return InBlock
	case ti < b.Always:
		return InRescue
	}
	return InAlways
}

// nesting are, by task, the blocks that the task stands in, the outermost first; nil
// for a play without any.
type nesting [][]Block

func newNesting(p *PlannedPlay) nesting {
	if len(p.Blocks) == 0 {
		return nil
	}
	out := make(nesting, len(p.Tasks))
	for _, b := range p.Blocks {
		for ti := b.Start; ti < b.End; ti++ {
			out[ti] = append(out[ti], b)
		}
	}
	return out
}

// badly reports whether the tasks from one to another, which are in depth blocks,
// ended badly as a whole: one failed, and no rescue made up for it.
func (x nesting) badly(from, to, depth int, failed func(ti int) bool) bool {
	for ti := from; ti < to; {
		if len(x[ti]) == depth {
			if failed(ti) {
				return true
			}
			ti++
			continue
		}
		b := x[ti][depth]
		if x.blockBadly(b, depth+1, failed) {
			return true
		}
		ti = b.End
	}
	return false
}

func (x nesting) blockBadly(b Block, depth int, failed func(ti int) bool) bool {
	bad := x.badly(b.Start, b.Rescue, depth, failed)
	if bad && b.Rescue < b.Always {
		bad = x.badly(b.Rescue, b.Always, depth, failed)
	}
	return x.badly(b.Always, b.End, depth, failed) || bad
}

// reaches reports whether a host comes to a task, by what failed on it before.
func (x nesting) reaches(task int, failed func(ti int) bool) bool {
	from := 0
	for depth := 0; ; depth++ {
		for ti := from; ti < task; {
			switch {
			case len(x[ti]) == depth:
				if failed(ti) {
					return false
				}
				ti++
			case task < x[ti][depth].End:
				ti = task // it is in this block
			case x.blockBadly(x[ti][depth], depth+1, failed):
				return false
			default:
				ti = x[ti][depth].End
			}
		}
		if len(x[task]) == depth {
			return true
		}
		b := x[task][depth]
		switch b.part(task) {
		case InBlock:
			from = b.Start
		case InRescue:
			if !x.badly(b.Start, b.Rescue, depth+1, failed) {
				return false
			}
			from = b.Rescue
		case InAlways:
			from = b.Always
		}
	}
}

// rescued reports whether a rescue takes up the failure of a task, at once or after
// the always of an inner block.
func (x nesting) rescued(task int) bool {
	return slices.ContainsFunc(x[task], func(b Block) bool { return b.part(task) == InBlock && b.Rescue < b.Always })
}

// reaches reports whether the host at a place of a play comes to a task of it.
func (r *Run) reaches(pi, place, task int) bool {
	x := r.index.plays[pi].nesting
	return (x == nil || x.reaches(task, r.failedAt(pi, place))) && !r.over(pi, place, task)
}

// failedAt reports of a task whether it failed for the host at the place. One that
// another host did for it has not, where that could not be reached.
func (r *Run) failedAt(pi, place int) func(ti int) bool {
	return func(ti int) bool {
		by := r.doer(pi, ti, place)
		if by < 0 {
			return false
		}
		s := r.steps[pi][ti][by]
		return s.Over() && s.Outcome.Bad() && (by == place || s.Outcome.Kind == Failed)
	}
}

// badly reports whether the host at a place of a play has failed in it, when it has
// nothing left to do there.
func (r *Run) badly(pi, place int) bool {
	x := r.index.plays[pi].nesting
	return x.badly(0, len(x), 0, r.failedAt(pi, place))
}

// Rescued reports whether the failure of a step is one that a rescue takes up.
func (r *Run) Rescued(id StepID) bool {
	at := r.index.find(id)
	if at.place < 0 || r.index.plays[id.Play].nesting == nil || !r.failedAt(id.Play, at.place)(id.Task) || r.beyondRescue(id) {
		return false
	}
	return r.index.plays[id.Play].nesting.rescued(id.Task)
}

// beyondRescue reports whether a step ended so that the host takes no further part:
// it cannot be reached, or was not fit for the run at all.
func (r *Run) beyondRescue(id StepID) bool {
	planned, _ := r.Plan.Step(id)
	return planned.Problem != nil || r.Step(id).Outcome.Kind == Unreachable
}

// Passes reports whether the run goes past a step that it has not begun: by what
// failed and what did not, the host does not come to it, or another one does it.
func (r *Run) Passes(id StepID) bool {
	at := r.index.find(id)
	if at.place < 0 || r.Step(id) != nil {
		return false
	}
	if !r.reaches(id.Play, at.place, id.Task) {
		return true
	}
	return r.Plan.Task(id).Once && r.chosen(onceID{id.Play, id.Task, r.index.plays[id.Play].batch[at.place]}) != at.place
}

// Rescue reports whether a task is done only where another one failed.
func (all Blocks) Rescue(ti int) bool { return all.Part(ti) == InRescue }

// Part says when a task is done, by the blocks that it stands in: only where another
// one failed (InRescue), or also then (InAlways); "" if in none.
func (all Blocks) Part(ti int) (out Part) {
	for _, b := range all {
		if b.Start > ti || ti >= b.End || out == InRescue {
			continue
		}
		if part := b.part(ti); part != InBlock || out == "" {
			out = part
		}
	}
	return out
}
