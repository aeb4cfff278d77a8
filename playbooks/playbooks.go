// Package playbooks holds the playbooks that fleetd brings. They are ordinary
// files in Ansible's grammar: copy them to change the order, the batches or what
// is done in between, and give the copy with --playbook.
package playbooks

import "embed"

// FS holds the playbooks at its root, and the task files that they import
// below tasks/.
//
//go:embed *.yml tasks/*.yml
var FS embed.FS
