// Package module has the modules of Ansible's own collection, ansible.builtin,
// that a playbook may put between fleetd's: command and shell on the nodes, and
// debug, assert, fail and set_fact, which touch nothing. Parameters, results and
// their names are Ansible's (docs.ansible.com, "Ansible.Builtin"); the node needs
// a POSIX shell and no Python.
//
// Their steps may be open: what a task before them registered can decide whether
// and with which arguments they run. A command is run once: where fleetd died
// while one was under way, a resume does not run it again, because nobody knows
// how far it came.
package module
