// Package playbook reads Ansible playbooks and compiles them, with an
// inventory, into what package rollout works on: plays with their batches, and
// tasks with the arguments of every host.
//
// What Ansible means by a keyword is what fleetd means by it; the tests hold
// batches, templates and conditions against ansible-core's own answers. Nothing
// is ignored: a keyword, module, parameter, filter or test that fleetd does not
// know is an error with file, line, column, the line's text and what to do, and
// so is everything that Ansible knows and fleetd does not support yet. All that
// can be found is reported at once, before any host is touched.
//
// Supported: import_playbook; plays with hosts, vars, vars_files, pre_tasks,
// tasks, post_tasks, serial, order, strategy linear and free,
// max_fail_percentage, handlers; blocks with rescue and always; import_tasks; loops,
// until, register, changed_when, failed_when, notify and listen; and the keywords that
// plays and blocks hand down (innermost). docs/playbooks.md has them all.
//
// A playbook is compiled before its first task runs. What then depends on a result
// of the run is an open step: the plan holds it as it is written with all that it
// needs, and [OpenSteps] resolves it when its turn comes. No facts are gathered
// that no task asks for.
//
// Where fleetd is stricter than Ansible on purpose: a path of a task file is no
// template; a number with a fraction is no text (6.10 would have become 6.1); an
// undefined variable in a condition is an error even if the condition says
// "x is defined" somewhere behind; max_fail_percentage lies between 0 and 100;
// connection: local is for localhost alone.
//
// Variables take Ansible's precedence: the inventory's, play vars, vars of
// import_playbook, vars_files, block vars, task vars, extra vars. A template in the
// value of a variable is resolved when the variable is used, for the host it is
// used on. serial, strategy, max_fail_percentage and hosts are resolved before
// there is a host, from play and extra vars alone, as in Ansible; and so is
// max_unavailable, the one variable that means something to fleetd itself.
package playbook
