package playbook

import "slices"

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
