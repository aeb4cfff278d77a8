// Package server is fleetd as a service: what was run and what is being run, and
// how fleets stand against their policies, as a page and as JSON, read from the
// journal beside the processes that write it.
//
// It starts no run. Fleets of its configuration it has looked at, at their times, by
// what it is handed: the report goes into the journal. Whoever asks has to show a
// token, also from this machine: a journal names every host of the fleet, and
// what their commands printed.
package server
