// Package collect says when fleetd collects garbage. It says so when it is
// initialised, before the packages that allocate most are: with Go's own
// settings a collection in the midst of Kubernetes' type tables took a fifth of
// fleetd's start. Packages are initialised by import path, as soon as what they
// import is (https://go.dev/ref/spec#Program_initialization); so this one
// imports little, and its path comes before k8s.io.
package collect

import (
	"os"
	"runtime/debug"
)

// memoryLimit is near which more is collected: an inventory of 100,000 hosts takes less.
const memoryLimit = 448 << 20

func init() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400) // a fifth of what a command on 200 hosts takes was garbage collection
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}

// ForOutput has fleetd stay small while it takes what a command prints on so many hosts,
// on some of them at a time: what is read once for all has been read by then, and
// output has no pointers, so that to collect around it often costs next to nothing.
func ForOutput(hosts, atATime int) {
	if os.Getenv("GOMEMLIMIT") == "" {
		// A command holds up to a mebibyte, twice for a moment; a connection takes 20 KB.
		debug.SetMemoryLimit(min(memoryLimit, 96<<20+int64(atATime)*2<<20+int64(hosts)*20<<10))
	}
}
