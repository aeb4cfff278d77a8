package main

import (
	"errors"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// faultsDir is a folder of the node that calico-node's pod has as well. Each file in it
// is a fault of the node's Felix.
const faultsDir faults = "/var/lib/calico/standin"

type faults string

// The faults. package fleet sets them by these names.
const (
	noBPF      = "no-bpf"      // the kernel has no BPF support: it says so and goes on without
	neverReady = "never-ready" // /readiness says no
	dip        = "dip"         // holds a time: in BPF mode it is not ready for so long after it works
	slow       = "slow"        // holds a time: so long it takes before it does anything for the BPF mode
	gap        = "gap"         // holds a time: so long no Service answers when it begins to carry them
)

func (f faults) set(name string) bool {
	_, err := os.Stat(filepath.Join(string(f), name))
	return err == nil
}

// time is how long a fault lasts, 0 without it.
func (f faults) time(name string) time.Duration {
	b, err := os.ReadFile(filepath.Join(string(f), name))
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	d, err := time.ParseDuration(strings.TrimSpace(string(b)))
	if err != nil {
		log.Fatalf("stand-in for Felix: fault %s: %v", name, err) // a fault that nobody sees would pass any test
	}
	return d
}
