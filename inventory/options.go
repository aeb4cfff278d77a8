package inventory

import "github.com/fleetd/fleetd/inventory/source"

// Options says how an inventory is read. The zero value reads files only, with
// Ansible's defaults.
type Options struct {
	source.Options
	// PlaybookDir, a path within the file system, is searched for group_vars/
	// and host_vars/ with the precedence of those beside a playbook. "" = none.
	PlaybookDir string
	// ExtraVars are -e arguments as given: key=value pairs, JSON or YAML
	// starting with { or [, or @file with file a path within the file system.
	ExtraVars []string
}
