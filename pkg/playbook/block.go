package playbook

import (
	"github.com/fleetd/fleetd/pkg/rollout"
)

// aBlock is a block with rescue or always.
type aBlock struct{ field }

// inBlock says in which part of a block a task stands.
type inBlock struct {
	block *aBlock
	part  rollout.Part
}

func (l *loader) block(src *source, entries []entry, in inherit) []*task {
	var own inherit
	parts := map[rollout.Part]*field{}
	var first entry
	for _, e := range entries {
		switch {
		case own.take(l, src, e):
		case e.name == "block", e.name == "rescue", e.name == "always":
			parts[rollout.Part(e.name)] = &field{src, e.val}
			if first.key == nil {
				first = e
			}
		case e.name == "name":
			l.text(&field{src, e.val})
		default:
			l.keyword(src, e, blockKeywords)
		}
	}
	if parts[rollout.InBlock] == nil {
		l.add(src.errorAt(first.key, "%s without a block", first.name).hint("write \"block:\" with the tasks that may fail"))
		return nil
	}
	all := in.with(own)
	if len(parts) == 1 {
		return l.tasks(parts[rollout.InBlock], all)
	}
	b := &aBlock{*parts[rollout.InBlock]}
	var out []*task
	for _, part := range []rollout.Part{rollout.InBlock, rollout.InRescue, rollout.InAlways} {
		if parts[part] != nil {
			out = append(out, l.tasks(parts[part], all.with(inherit{blocks: []inBlock{{b, part}}}))...)
		}
	}
	return out
}

// blocksOf are the blocks that the tasks of a play stand in.
func blocksOf(tasks []*taskRun) rollout.Blocks {
	var out rollout.Blocks
	at := map[*aBlock]int{}
	for ti, t := range tasks {
		for _, in := range t.blocks {
			i, known := at[in.block]
			if !known {
				i = len(out)
				at[in.block] = i
				out = append(out, rollout.Block{Start: ti, Rescue: ti, Always: ti, End: ti})
			}
			b := &out[i]
			b.End = ti + 1
			if in.part != rollout.InAlways {
				b.Always = ti + 1
			}
			if in.part == rollout.InBlock {
				b.Rescue = ti + 1
			}
		}
	}
	return out
}

// rescued reports whether the task is one of a rescue.
func (t *task) rescued() bool {
	for _, in := range t.blocks {
		if in.part == rollout.InRescue {
			return true
		}
	}
	return false
}
