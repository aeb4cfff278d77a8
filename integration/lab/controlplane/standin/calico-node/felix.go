package main

import (
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

const (
	credentials = "/etc/kubelet-standin"
	bpffs       = "/sys/fs/bpf"
	// noBPF is the file that makes it find no BPF support.
	noBPF = "/etc/fleetd-lab/no-bpf"
	// podLog is where a container runtime keeps calico-node's log.
	podLog = "/var/log/pods/calico-system_calico-node-standin_0/calico-node/0.log"
	// modeChanged is the status that Felix exits with when its mode has changed.
	modeChanged = 129
)

// pins are the maps of Services under the names of Felix 3.29, and the place of
// the link of a program attached by tcx.
var pins = []string{
	filepath.Join(bpffs, "tc/globals/cali_v4_nat_fe3"),
	filepath.Join(bpffs, "tc/globals/cali_v4_nat_be2"),
	filepath.Join(bpffs, "tc/globals/cali_v4_ct4"),
	filepath.Join(bpffs, "tcx/eth0_ingress"),
}

// felix is a STAND-IN for a machine's Felix. As Felix does, it follows
// bpfEnabled, exits when that changes and is started again, holds its BPF maps
// open while it is in BPF mode, pins them, takes the pins away in the other
// mode, and logs which mode it is in. With the file noBPF it does what Felix
// does on a kernel without BPF support: it says so and goes on without. What it
// does not show: no program is loaded or attached (a map stands where the link
// of one is pinned), no packet is touched, and the maps are empty.
func felix() error {
	server, err := os.ReadFile(filepath.Join(credentials, "server"))
	if err != nil {
		return err
	}
	api, err := connect(strings.TrimSpace(string(server)), filepath.Join(credentials, "ca"), filepath.Join(credentials, "cert"), filepath.Join(credentials, "key"))
	if err != nil {
		return err
	}
	mode := waitMode(api)
	if err := unpin(); err != nil {
		return err
	}
	_, err = os.Stat(noBPF)
	switch refused := err == nil; {
	case mode && refused:
		err = say("[ERROR][1] felix/daemon.go 409: BPF dataplane mode enabled but not supported by the kernel.  Disabling BPF mode.")
	case mode:
		maps, perr := pin()
		defer func() {
			for _, m := range maps {
				_ = m.Close()
			}
		}()
		err = errors.Join(perr, say("[INFO][1] felix/int_dataplane.go 760: BPF enabled, starting BPF endpoint manager and map manager."))
	default:
		err = nil
	}
	if err != nil {
		return err
	}
	for waitMode(api) == mode {
		time.Sleep(2 * time.Second)
	}
	os.Exit(modeChanged)
	return nil
}

// waitMode asks until the API server answers: it may be away, as its machine is.
func waitMode(api *client) bool {
	for ; ; time.Sleep(2 * time.Second) {
		on, err := api.bpfEnabled()
		if err == nil {
			return on
		}
		log.Printf("stand-in for Felix: %v", err)
	}
}

func pin() ([]*ebpf.Map, error) {
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(bpffs, &st); err != nil || st.Type != unix.BPF_FS_MAGIC {
		if err := unix.Mount("bpffs", bpffs, "bpf", 0, ""); err != nil {
			return nil, fmt.Errorf("cannot mount %s: %w", bpffs, err)
		}
	}
	var maps []*ebpf.Map
	for _, file := range pins {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return maps, err
		}
		m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 16, ValueSize: 16, MaxEntries: 16})
		if err != nil {
			return maps, err
		}
		maps = append(maps, m)
		if err := m.Pin(file); err != nil {
			return maps, err
		}
	}
	return maps, nil
}

func unpin() error {
	var errs []error
	for _, file := range pins {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func say(line string) error {
	if err := os.MkdirAll(filepath.Dir(podLog), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(podLog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s stdout F %s\n", time.Now().UTC().Format(time.RFC3339Nano), line)
	return errors.Join(err, f.Close())
}
