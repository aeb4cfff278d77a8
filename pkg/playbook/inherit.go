package playbook

import (
	"maps"
	"slices"

	"github.com/fleetd/fleetd/pkg/value"
)

// inherit is what tasks take over from the play, blocks and imports.
type inherit struct {
	// when are all conditions, the outermost first.
	when []*field
	// vars are the layers of variables, those that win first.
	vars []*value.Map
	tags []string
	// environment are the mappings of variables of the environment, the outermost
	// first.
	environment []param
	// keywords are those of which the innermost counts, by name.
	keywords map[string]*field
	// blocks are those with rescue or always, the outermost first.
	blocks []inBlock
}

// innermost are the keywords that tasks take over from what is around them, unless
// they say otherwise themselves.
var innermost = []string{
	"become", "become_user", "become_method", "become_exe", "become_flags", "connection", "run_once", "ignore_errors", "ignore_unreachable", "any_errors_fatal", "no_log", "throttle",
	"timeout", "delegate_to", "check_mode", "diff",
}

// with is what a block, an import or a task adds.
func (in inherit) with(own inherit) inherit {
	out := inherit{
		when:        append(slices.Clip(in.when), own.when...),
		vars:        append(slices.Clip(own.vars), in.vars...),
		tags:        append(slices.Clip(in.tags), own.tags...),
		environment: append(slices.Clip(in.environment), own.environment...),
		blocks:      append(slices.Clip(in.blocks), own.blocks...),
		keywords:    in.keywords,
	}
	if len(own.keywords) > 0 {
		out.keywords = maps.Clone(in.keywords)
		if out.keywords == nil {
			out.keywords = map[string]*field{}
		}
		maps.Copy(out.keywords, own.keywords)
	}
	return out
}

// take reads a keyword that is inherited. It reports whether the key is one.
func (in *inherit) take(l *loader, src *source, e entry) bool {
	f := &field{src, e.val}
	switch e.name {
	case "when":
		in.when = l.when(f)
	case "vars":
		in.vars = []*value.Map{l.vars(f)}
	case "tags":
		in.tags = l.tags(f)
	case "environment":
		l.parseTemplates(src, e.val)
		in.environment = []param{{src, e, l.data(src, e.val)}}
	default:
		return in.keyword(l, f, e.name)
	}
	return true
}

// keyword reads one of which the innermost counts.
func (in *inherit) keyword(l *loader, f *field, name string) bool {
	if !slices.Contains(innermost, name) {
		return false
	}
	if in.keywords == nil {
		in.keywords = map[string]*field{}
	}
	if v := l.scalar(f); v != nil {
		in.keywords[name] = v
	}
	return true
}
