package bpf

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/perf"
	"github.com/cilium/ebpf/rlimit"
)

// Options are how an object is loaded.
type Options struct {
	// PerCPUBuffer is the room for events that wait to be read, in bytes per
	// CPU. It is rounded up to what the kernel takes, a power of two of pages.
	// 0 = 64 KiB, about 500 events.
	PerCPUBuffer int
}

// tracefsPaths are where the kernel's trace events are, newest habit first.
var tracefsPaths = []string{"/sys/kernel/tracing", "/sys/kernel/debug/tracing"}

// Collection is a loaded object: its maps and the one program of it that fits
// this kernel. It must be closed; then nothing of it stays in the kernel.
type Collection struct {
	object   Object
	program  *ebpf.Program
	latency  *ebpf.Map
	counters *ebpf.Map
	maps     []*ebpf.Map
	reader   *perf.Reader
	reading  sync.Mutex

	mu   sync.Mutex
	link link.Link
}

// Load checks that this kernel can run the object tcp_connect, and loads it.
// It is not attached yet. The caller must be root or hold CAP_BPF and
// CAP_PERFMON. Errors name what is missing and what to do.
func Load(o Object, opts Options) (*Collection, error) {
	format, err := readFormat(tracefsPaths)
	if err != nil {
		return nil, fmt.Errorf("cannot load %s: %w", o.Name, err)
	}
	program, err := chooseProgram(format)
	if err != nil {
		return nil, fmt.Errorf("cannot load %s: tracepoint sock:inet_sock_set_state of this kernel: %w\n"+
			"this kernel is newer than this fleetd or was changed; report it with the file events/sock/inet_sock_set_state/format", o.Name, err)
	}
	return load(o, program, cmp.Or(opts.PerCPUBuffer, 64<<10))
}

// load loads one program of the object, and its maps.
func load(o Object, program string, perCPUBuffer int) (*Collection, error) {
	// Before Linux 5.11 maps are charged to the memlock limit, whose default is
	// 64 KiB: loading would fail with EPERM, which says nothing of memory.
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("cannot load %s: cannot raise the memlock limit: %w\n%s", o.Name, err, hintPrivilege)
	}
	if err := probe(o); err != nil {
		return nil, err
	}
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(o.Bytes))
	if err != nil {
		return nil, fmt.Errorf("cannot read object %s: %w", o.Name, err)
	}
	// The other program would load as well, for nothing.
	maps.DeleteFunc(spec.Programs, func(name string, _ *ebpf.ProgramSpec) bool { return name != program })
	connects := spec.Maps["connects"]
	if connects == nil || spec.Programs[program] == nil {
		return nil, fmt.Errorf("cannot load %s: the object has no map connects or no program %s", o.Name, program)
	}
	// An LRU hash gives every CPU a stock of 128 free entries of its own. On a
	// machine with many CPUs those alone would use up the map, and entries in
	// use would be evicted.
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("cannot load %s: %w", o.Name, err)
	}
	connects.MaxEntries = max(connects.MaxEntries, uint32(512*cpus))

	loaded, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, fmt.Errorf("cannot load %s: %w", o.Name, err)
	}
	defer loaded.Close() // what is detached below outlives it
	c := &Collection{object: o, program: loaded.DetachProgram(program)}
	for name := range spec.Maps {
		m := loaded.DetachMap(name)
		c.maps = append(c.maps, m)
		switch name {
		case "latency_us":
			c.latency = m
		case "counters":
			c.counters = m
		case "events":
			// Opened before the program is attached, so that no event is lost
			// between the two.
			c.reader, err = perf.NewReader(m, perCPUBuffer)
		}
	}
	if err == nil && (c.latency == nil || c.counters == nil || c.reader == nil) {
		err = errors.New("the object lacks one of the maps latency_us, counters, events")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot load %s: %w", o.Name, err), c.Close())
	}
	return c, nil
}

func readFormat(tracefs []string) ([]byte, error) {
	for _, dir := range tracefs {
		b, err := os.ReadFile(filepath.Join(dir, "events/sock/inet_sock_set_state/format"))
		if err == nil {
			return b, nil
		}
		if errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("%w\n%s", err, hintPrivilege)
		}
		if _, err := os.Stat(filepath.Join(dir, "events")); err == nil {
			return nil, fmt.Errorf("this kernel has no tracepoint sock:inet_sock_set_state\nit came with Linux 4.16: boot a newer kernel")
		}
	}
	return nil, fmt.Errorf("tracefs is not mounted\nmount -t tracefs tracefs /sys/kernel/tracing")
}

// Attach starts the program. Attaching twice is an error.
func (c *Collection) Attach() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link != nil {
		return fmt.Errorf("cannot attach %s: it is attached", c.object.Name)
	}
	l, err := link.Tracepoint("sock", "inet_sock_set_state", c.program, nil)
	if err != nil {
		return fmt.Errorf("cannot attach %s to sock:inet_sock_set_state: %w", c.object.Name, err)
	}
	c.link = l
	return nil
}

// LostError says that events came faster than they were read. Reading goes on;
// the histograms and counters have them all.
type LostError struct{ Count uint64 }

func (e *LostError) Error() string {
	return fmt.Sprintf("lost %d events: read faster, or read the histogram", e.Count)
}

// Events yields what the program reports, until the context is done or the
// collection is closed. What is waiting when the context is done is still
// delivered. Events of one CPU come in order, those of several do not: sort by
// ConnectEvent.Monotonic where it matters.
//
// Errors are yielded in between and end nothing by themselves, except the last
// one: a *[LostError] is a gap, an error of the decoder is one bad event.
// Only one loop may run at a time.
func (c *Collection) Events(ctx context.Context) iter.Seq2[ConnectEvent, error] {
	return func(yield func(ConnectEvent, error) bool) {
		if !c.reading.TryLock() {
			yield(ConnectEvent{}, fmt.Errorf("cannot read the events of %s: another loop reads them", c.object.Name))
			return
		}
		defer c.reading.Unlock()
		// SetDeadline would not do: it waits for the read that it shall end.
		stop := context.AfterFunc(ctx, func() { _ = c.reader.Flush() }) // fails only when it is closed, which ends the loop, too
		defer stop()
		var record perf.Record
		for {
			err := c.reader.ReadInto(&record)
			switch {
			case errors.Is(err, perf.ErrFlushed) && ctx.Err() == nil:
				// Left over from a loop that was broken off as its context ended.
				continue
			case errors.Is(err, perf.ErrFlushed), errors.Is(err, perf.ErrClosed):
				return
			case err != nil:
				yield(ConnectEvent{}, fmt.Errorf("cannot read the events of %s: %w", c.object.Name, err))
				return
			}
			if record.LostSamples > 0 {
				if !yield(ConnectEvent{}, &LostError{record.LostSamples}) {
					return
				}
				continue
			}
			var e ConnectEvent
			err = e.UnmarshalBinary(record.RawSample)
			if !yield(e, err) {
				return
			}
		}
	}
}

// Histogram is how long the attempts took that ended so, since the attach,
// summed over all CPUs.
func (c *Collection) Histogram(o Outcome) (Histogram, error) {
	var h Histogram
	if o != Established && o != ConnectFailed {
		return h, fmt.Errorf("no histogram for %s", o)
	}
	first := uint32(o-Established) * Slots
	for i := range h {
		n, err := sum(c.latency, first+uint32(i))
		if err != nil {
			return h, fmt.Errorf("cannot read the histogram of %s: %w", c.object.Name, err)
		}
		h[i] = n
	}
	return h, nil
}

// Counters are the sums over all CPUs since the attach.
func (c *Collection) Counters() (Counters, error) {
	var established, failed uint64
	var v Counters
	// The order of enum counter in tcp_connect.c.
	for key, dst := range []*uint64{&v.Started, &v.Established, &v.Failed, &v.Untracked, &v.Other, &v.Unsent, &established, &failed} {
		n, err := sum(c.counters, uint32(key))
		if err != nil {
			return Counters{}, fmt.Errorf("cannot read the counters of %s: %w", c.object.Name, err)
		}
		*dst = n
	}
	v.EstablishedTime = time.Duration(established) * time.Microsecond
	v.FailedTime = time.Duration(failed) * time.Microsecond
	return v, nil
}

func sum(m *ebpf.Map, key uint32) (uint64, error) {
	var perCPU []uint64
	if err := m.Lookup(key, &perCPU); err != nil {
		return 0, err
	}
	var n uint64
	for _, c := range perCPU {
		n += c
	}
	return n, nil
}

// Close detaches the program and frees all of it. A loop over Events ends.
func (c *Collection) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	if c.link != nil {
		errs = append(errs, c.link.Close())
		c.link = nil
	}
	if c.reader != nil {
		errs = append(errs, c.reader.Close())
	}
	errs = append(errs, c.program.Close())
	for _, m := range c.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}
