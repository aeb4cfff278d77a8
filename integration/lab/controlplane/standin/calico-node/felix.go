package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
)

const (
	bpffs = "/sys/fs/bpf"
	// podLog is where a container runtime would keep calico-node's log, on a machine
	// that has none.
	podLog = "/var/log/pods/calico-system_calico-node-standin_0/calico-node/0.log"
	// modeChanged is the status that Felix exits with when its mode has changed.
	modeChanged = 129
	// lookEvery is how often it looks at bpfEnabled, for want of a watch.
	lookEvery = time.Second
)

// pins are the maps of Services under the names of Felix 3.29, and the place of
// the link of a program attached by tcx.
var pins = []string{
	filepath.Join(bpffs, "tc/globals/cali_v4_nat_fe3"),
	filepath.Join(bpffs, "tc/globals/cali_v4_nat_be2"),
	filepath.Join(bpffs, "tc/globals/cali_v4_ct4"),
	filepath.Join(bpffs, "tcx/eth0_ingress"),
}

// felix is a STAND-IN for a node's Felix. As Felix does, it follows bpfEnabled,
// exits when that changes and is started again, holds its BPF maps open while it
// is in BPF mode, pins them, takes the pins away in the other mode, and logs which
// mode it is in; in a pod it serves /liveness and /readiness and carries Services.
// It fails by name (faults.go). What it does not show: no program is loaded or
// attached (a map stands where the link of one is pinned), and the maps are empty.
func felix() error {
	api, err := connect()
	if err != nil {
		return err
	}
	f := &felixProcess{api: api, faults: faultsDir}
	if inPod() {
		if err := f.serveHealth(); err != nil {
			return err
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return f.run(ctx)
}

type felixProcess struct {
	api    *client
	faults faults
	// synced is set when it has done what its mode asks for.
	synced atomic.Bool
	maps   []*ebpf.Map
	carried
}

func (f *felixProcess) run(ctx context.Context) error {
	mode, err := f.waitMode(ctx)
	if err != nil {
		return err
	}
	if err := f.enter(ctx, mode); err != nil {
		return err
	}
	f.synced.Store(true)
	for {
		if err := pause(ctx, lookEvery); err != nil {
			return f.end()
		}
		now, err := f.waitMode(ctx)
		if err != nil {
			return f.end()
		}
		if now != mode {
			os.Exit(modeChanged)
		}
		if mode && f.maps != nil && inPod() {
			if err := f.carry(f.api); err != nil {
				log.Printf("stand-in for Felix: %v", err)
			}
		}
	}
}

// end is what it does when it is told to. With eBPF on, all stays as it is: traffic
// goes on. Where that has been turned off, a pod that comes after this one has no BPF
// file system to clear; what the real one leaves behind in that race is not known here.
func (f *felixProcess) end() error {
	if on, err := f.api.bpfEnabled(); err == nil && !on {
		return f.leave()
	}
	return nil
}

// enter does what the mode asks for.
func (f *felixProcess) enter(ctx context.Context, mode bool) error {
	if mode {
		if err := pause(ctx, f.faults.time(slow)); err != nil {
			return err
		}
	}
	if !mode || f.faults.set(noBPF) {
		if err := f.leave(); err != nil || !mode {
			return err
		}
		return say("[ERROR][1] felix/daemon.go 409: BPF dataplane mode enabled but not supported by the kernel.  Disabling BPF mode.")
	}
	// What an earlier one has pinned is of no use.
	if err := errors.Join(unpin(), f.pin()); err != nil {
		return err
	}
	if err := say("[INFO][1] felix/int_dataplane.go 760: BPF enabled, starting BPF endpoint manager and map manager."); err != nil {
		return err
	}
	if inPod() {
		if gap := f.faults.time(gap); gap > 0 {
			if err := f.carryNowhere(f.api); err != nil {
				return err
			}
			if err := pause(ctx, gap); err != nil {
				return err
			}
		}
		if err := f.carry(f.api); err != nil {
			return err
		}
		return pause(ctx, f.faults.time(dip))
	}
	return nil
}

// leave takes away what the BPF mode has put there.
func (f *felixProcess) leave() error {
	if !inPod() {
		return unpin()
	}
	return errors.Join(unpin(), f.carryNoMore())
}

// waitMode asks until the API server answers: it may be away, as its machine is. The
// error is that it was told to end.
func (f *felixProcess) waitMode(ctx context.Context) (bool, error) {
	for {
		on, err := f.api.bpfEnabled()
		if err == nil {
			return on, nil
		}
		log.Printf("stand-in for Felix: %v", err)
		if err := pause(ctx, lookEvery); err != nil {
			return false, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func healthAddress() string {
	return net.JoinHostPort("127.0.0.1", cmp.Or(os.Getenv("FELIX_HEALTHPORT"), "9099"))
}

func (f *felixProcess) serveHealth() error {
	l, err := net.Listen("tcp", healthAddress())
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/liveness", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/readiness", func(w http.ResponseWriter, _ *http.Request) {
		if !f.synced.Load() || f.faults.set(neverReady) {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
		}
	})
	go func() { log.Fatal(http.Serve(l, mux)) }()
	return nil
}

func (f *felixProcess) pin() error {
	if err := rlimit.RemoveMemlock(); err != nil {
		return err
	}
	if err := mountBPF(); err != nil {
		return err
	}
	for _, file := range pins {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return err
		}
		m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 16, ValueSize: 16, MaxEntries: 16})
		if err != nil {
			return err
		}
		f.maps = append(f.maps, m)
		if err := m.Pin(file); err != nil {
			return err
		}
	}
	return nil
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

// say writes a line of Felix's log.
func say(line string) error {
	if inPod() {
		fmt.Println(line)
		return nil
	}
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
