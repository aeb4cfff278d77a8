package playbook

import (
	"fmt"
	"maps"
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
