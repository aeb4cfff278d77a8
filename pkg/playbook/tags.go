package playbook

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
)

// specialTags mean something though no task has them.
var specialTags = []string{"all", "always", "never", "tagged", "untagged"}

// KnowsTags refuses a tag that no task has: mistyped in --tags it would leave
// everything out, and in --skip-tags nothing.
func (p *Playbook) KnowsTags(tags []string) error {
	known := map[string]bool{}
	for _, pl := range p.plays {
		for _, t := range pl.tasks {
			for _, tag := range t.tags {
				known[tag] = true
			}
		}
	}
	for _, tag := range tags {
		if known[tag] || slices.Contains(specialTags, tag) {
			continue
		}
		names := slices.Sorted(maps.Keys(known))
		if len(names) == 0 {
			return fmt.Errorf("no task has the tag %q: the playbook has no tags", tag)
		}
		hint := "its tags are " + strings.Join(names, ", ")
		if near := jinja.Nearest(tag, names); near != "" {
			hint = "did you mean " + near + "? " + hint
		}
		return fmt.Errorf("no task has the tag %q\n%s", tag, hint)
	}
	return nil
}

// KnowsTask refuses the name of a task at which nothing would start.
func (p *Playbook) KnowsTask(name string) error {
	var names []string
	for _, pl := range p.plays {
		for _, t := range pl.tasks {
			if t.called == nil && t.isNamed(name) {
				return nil
			}
			if t.name != nil {
				names = append(names, t.name.node.Value)
			}
		}
	}
	if name == "" {
		return nil
	}
	if near := jinja.Nearest(name, names); near != "" {
		return fmt.Errorf("no task has the name %q to start at\ndid you mean %q?", name, near)
	}
	return fmt.Errorf("no task has the name %q to start at\nthe name is that of a task as the playbook has it, or a pattern such as \"Drain*\"", name)
}

// isNamed reports whether a pattern of the shell, as Ansible takes it, is that of
// the task's name.
func (t *task) isNamed(pattern string) bool {
	if t.name == nil || pattern == "" {
		return false
	}
	name := t.name.node.Value
	matches, err := path.Match(strings.ReplaceAll(pattern, "/", "\x00"), strings.ReplaceAll(name, "/", "\x00"))
	return name == pattern || err == nil && matches
}

// started reports whether a task is the one at which the run is to start, or stands
// behind it.
func (c *compiler) started(t *task) bool {
	c.begun = c.begun || c.opts.StartAtTask == "" || t.isNamed(c.opts.StartAtTask)
	return c.begun
}

// tagged reports whether --tags and --skip-tags let a task run, by Ansible's
// rules for the words always, never, all, tagged and untagged.
func (c *compiler) tagged(t *task) bool {
	tags := t.tags
	untagged := len(tags) == 0
	if untagged {
		tags = []string{"untagged"}
	}
	has := func(list []string, word string) bool { return slices.Contains(list, word) }
	shares := func(list []string) bool {
		return slices.ContainsFunc(tags, func(t string) bool { return has(list, t) })
	}

	only := c.opts.Tags
	if len(only) == 0 {
		only = []string{"all"}
	}
	run := has(tags, "always") ||
		has(only, "all") && !has(tags, "never") ||
		shares(only) ||
		has(only, "tagged") && !untagged && !has(tags, "never")
	if !run {
		return false
	}
	skip := c.opts.SkipTags
	switch {
	case has(skip, "all"):
		return has(tags, "always") && !has(skip, "always")
	case shares(skip):
		return false
	}
	return !has(skip, "tagged") || untagged
}
