package playbook

import (
	"slices"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/yaml"
)

// metas are the words behind meta that are tasks of their own, by what they end.
var metas = map[string]rollout.Ends{
	"end_host": rollout.EndsHost, "end_batch": rollout.EndsBatch, "end_play": rollout.EndsPlay, "reset_connection": "",
}

// notMeta are Ansible's other words behind meta, and why fleetd has none of them.
var notMeta = map[string]string{
	"clear_facts":       "a variable of set_fact is set again by another set_fact",
	"clear_host_errors": "write the tasks that may fail into a block with rescue",
	"refresh_inventory": "a plan is made for the inventory as it is",
}

// metaKeywords are those that mean nothing for meta; Ansible passes over them in silence.
var metaKeywords = []string{
	"register", "loop", "loop_control", "notify", "until", "retries", "delay", "changed_when", "failed_when", "delegate_to", "run_once", "args",
}

// meta reads what stands behind meta. It reports whether that is a task; noop and
// flush_handlers are none.
func (l *loader) meta(t *task, f *field, entries []entry) bool {
	word, _ := yaml.Scalar(f.node).(string)
	ends, isTask := metas[word]
	switch {
	case isTask:
		t.ends = ends
	case word == "noop":
	case word == "flush_handlers":
		t.flush = true
	case notMeta[word] != "":
		l.add(f.errorAt("meta: %s is not supported by fleetd", word).hint("%s", notMeta[word]))
	default:
		l.add(f.errorAt("meta takes one word, and not %q", yaml.Resolve(f.node).Value).hint("it takes end_host, end_batch, end_play, flush_handlers, noop or reset_connection"))
	}
	for _, e := range entries {
		if slices.Contains(metaKeywords, e.name) || loops[e.name] != nil {
			l.add(t.src.errorAt(e.key, "%s does nothing for meta, in Ansible neither", e.name).hint("meta takes name, when, tags and vars"))
		}
	}
	return isTask
}

// endsKnown reports whether the task is sure to end something when it is the host's
// turn: nothing but the plan decides.
func (t *taskRun) endsKnown(host string) bool {
	_, open := t.out.Open[host]
	_, bound := t.out.Args[host]
	return t.ends != "" && bound && !open && len(t.blocks) == 0
}
