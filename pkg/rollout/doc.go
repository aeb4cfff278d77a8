// Package rollout is the core of fleetd: what is to be changed, in which order,
// and what has happened so far. It is pure. Its functions carry the program:
//
//   - [Compute] turns what the playbook wants and what was observed into a
//     [Plan]; [Reverse] turns what a run did into the plan that takes it back;
//   - [Next] says which steps of a [Run] may start now, or why it waits, halts
//     or is done; every rule of order lives there;
//   - [Fold] turns the events of a journal into a Run, and [Run.Snapshot] writes
//     one down to go on from there.
//
// The package imports no network, no file system and no clock: time is an
// argument, and everything in it is plain data that can be written to a plan
// file or a journal and read back. What touches a node or the cluster is a
// module; the core only names it.
//
// Decisions go by the run's own clock, which tells how long fleetd has worked at
// the run: an hour between a crash and a resume, or a bastion whose clock is set,
// makes nothing late and nothing early.
package rollout
