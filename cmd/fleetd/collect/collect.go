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

func init() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400) // a fifth of what a command on 200 hosts takes was garbage collection
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(448 << 20) // near which more is collected: an inventory of 100,000 hosts takes less
	}
}
