// Package module has the modules of Ansible's own collection, ansible.builtin,
// that a playbook may put between fleetd's: those that run something on a node
// (command, shell, raw, script), that change files (file, copy, template), that
// look, wait or gather facts, and that touch nothing (debug, assert, fail, set_fact,
// pause). Parameters, results and their names are Ansible's (docs.ansible.com,
// "Ansible.Builtin"); the node needs a POSIX shell and no Python.
//
// Their steps may be open: what a task before them registered can decide whether
// and with which arguments they run. A command is run once: where fleetd died
// while one was under way, a resume does not run it again, because nobody knows
// how far it came.
//
// Files are decided on by one pure function, which the plan asks with what the
// facts say, the run with what it sees before it acts, and again with what it reads
// back. What is there is noted before it is changed, and kept on the node where it
// is replaced: an undo goes by that.
package module
