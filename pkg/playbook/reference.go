package playbook

import (
	"maps"
	"slices"
	"strings"
)

// A Keyword is one of Ansible's.
type Keyword struct {
	// Place is where it stands: play, block, task, import_playbook.
	Place string
	Name  string
	// Refused says why fleetd does not take it; "" = it does.
	Refused string
}

// Keywords are all that Ansible has, by place and name.
func Keywords() []Keyword {
	var out []Keyword
	for _, k := range []keywords{playKeywords, blockKeywords, taskKeywords, importPlaybookKeywords} {
		for _, name := range slices.Sorted(maps.Keys(k.names)) {
			why, _ := k.refuse(name)
			out = append(out, Keyword{k.place, name, why})
		}
		if k.place == taskKeywords.place {
			for _, name := range loopNames() {
				if _, listed := k.names[name]; !listed {
					out = append(out, Keyword{k.place, name, ""})
				}
			}
			out = append(out, Keyword{k.place, "with_*", noLoops})
		}
	}
	return out
}

// Refused are what of Ansible's own modules and actions fleetd does not have, by
// name, with the reason where there is one.
func Refused() map[string]string {
	out := maps.Clone(actions)
	for _, name := range builtin {
		out[name] = ""
	}
	return out
}

// Short is a module's name as most playbooks write it.
func Short(module string) string { return strings.TrimPrefix(module, builtinPrefix) }
