package playbook

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
	"github.com/fleetd/fleetd/pkg/yaml"
)

// handlerNames are the words of notify or listen.
func (l *loader) handlerNames(f *field) []string {
	nodes := []*yaml.Node{f.node}
	if f.node.Kind == yaml.SequenceNode {
		nodes = f.node.Content
	}
	var out []string
	for _, n := range nodes {
		n = yaml.Resolve(n)
		switch {
		case !isText(n) || n.Value == "":
			l.add(f.src.errorAt(n, "the name of a handler is a text, not %s", kindName(n)))
		case jinja.MaybeTemplate(n.Value):
			l.add(f.src.errorAt(n, "a handler that is named by a template is not supported by fleetd yet").hint("write the name out: the plan says which handlers a change calls"))
		default:
			out = append(out, n.Value)
		}
	}
	return out
}

// withHandlers puts behind each part of a play, and where handlers are flushed,
// the handlers that its tasks may call, in the order in which they are defined, as
// Ansible runs them.
func (l *loader) withHandlers(parts [][]*task, handlers []*task) []*task {
	for _, h := range handlers {
		if h.name != nil && jinja.MaybeTemplate(h.name.node.Value) {
			l.add(h.name.errorAt("a handler whose name is a template is not supported by fleetd yet").hint("write the name out, or give it a word with listen"))
		}
	}
	for _, h := range handlers {
		if len(h.blocks) > 0 {
			l.add(h.errorAt("a handler in a block with rescue or always is not supported by fleetd yet").hint("take the block apart, or let a task that may fail stand among the tasks"))
			h.blocks = nil
		}
	}
	var out, section []*task
	var called []string
	flush := func(where []inBlock) {
		var late []string
		for _, t := range section {
			called = append(called, l.known(t, handlers)...)
			out = append(out, t)
		}
		for i, h := range handlers {
			if !slices.ContainsFunc(h.words(), func(w string) bool { return slices.Contains(called, w) }) {
				continue
			}
			copied := *h
			copied.called, copied.handler, copied.blocks = h.words(), i+1, where
			out = append(out, &copied)
			for _, word := range l.known(h, handlers) {
				called = append(called, word)
				if slices.ContainsFunc(handlers[:i+1], func(o *task) bool { return slices.Contains(o.words(), word) }) {
					late = append(late, word) // it has had its turn here; as in Ansible the next part has it
				}
			}
		}
		section = nil
		if len(where) == 0 {
			called = late // in a block, a host that fails may not come to it
		}
	}
	for _, part := range parts {
		for _, t := range part {
			if t.flush {
				if slices.ContainsFunc(section, func(o *task) bool { return len(o.notify) > 0 && !o.under(t.when) }) {
					l.add(t.errorAt("flush_handlers under a condition that tasks before it do not have is not supported by fleetd").hint("take the condition away: a handler runs on hosts that notify it"))
				}
				flush(t.blocks)
			} else {
				section = append(section, t)
			}
		}
		flush(nil)
	}
	return out
}

// under reports whether the task is done under the same conditions, if not more.
func (t *task) under(when []*field) bool {
	return len(t.when) >= len(when) && slices.Equal(t.when[:len(when)], when)
}

// words are what calls the task as a handler.
func (t *task) words() []string {
	if t.name == nil {
		return t.listen
	}
	return append([]string{t.name.node.Value}, t.listen...)
}

// known are the handlers that a task names; one that is not there is told.
func (l *loader) known(t *task, handlers []*task) []string {
	var all []string
	for _, h := range handlers {
		all = append(all, h.words()...)
	}
	for _, name := range t.notify {
		if !slices.Contains(all, name) {
			hint := "the play has no handlers"
			if len(all) > 0 {
				hint = didYouMean(name, all, "its handlers are: "+strings.Join(all, ", "))
			}
			l.add(t.errorAt("notify: there is no handler %q", name).hint("%s", hint))
		}
	}
	return t.notify
}

// calledBy is how the plan says that a handler runs where it is notified.
func calledBy(words []string) string { return fmt.Sprintf("whether it is notified (%s)", words[0]) }
