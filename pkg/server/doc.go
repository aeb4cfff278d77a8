// Package server is fleetd as a service: what was run and what is being run, and
// how fleets stand against their policies, as a page and as JSON, read from the
// journal beside the processes that write it.
//
// What it is handed looks at fleets of its configuration at their times, and begins
// plans that one person has proposed and another one approved. A run that is under way
// it asks to stop, through the journal. Whoever asks has to show a
// token, also from this machine: a journal names every host of the fleet, and
// what their commands printed.
package server
