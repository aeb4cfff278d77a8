package bpf

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

const hintPrivilege = "run it as root, or with CAP_BPF and CAP_PERFMON"

// A requirement is something that an object uses, and the kernel it came with.
type requirement struct {
	what  string
	since KernelVersion
	have  func() error
}

// What tcp_connect uses, in the order to complain. The package features asks
// the running kernel once for each and remembers the answer.
var requirements = []requirement{
	{"tracepoint programs", KernelVersion{4, 7}, func() error { return features.HaveProgramType(ebpf.TracePoint) }},
	{"LRU hash maps", KernelVersion{4, 10}, func() error { return features.HaveMapType(ebpf.LRUHash) }},
	{"per-CPU array maps", KernelVersion{4, 6}, func() error { return features.HaveMapType(ebpf.PerCPUArray) }},
	{"perf event arrays", KernelVersion{4, 3}, func() error { return features.HaveMapType(ebpf.PerfEventArray) }},
	{"the helper bpf_get_current_cgroup_id", KernelVersion{4, 18}, func() error {
		return features.HaveProgramHelper(ebpf.TracePoint, asm.FnGetCurrentCgroupId)
	}},
	{"the helper bpf_perf_event_output", KernelVersion{4, 7}, func() error {
		return features.HaveProgramHelper(ebpf.TracePoint, asm.FnPerfEventOutput)
	}},
}

// probe asks the kernel for what the object uses, rather than comparing
// versions: Enterprise Linux kernels have features their number denies.
func probe(o Object) error {
	return check(o, requirements, release())
}

func check(o Object, requirements []requirement, release string) error {
	for _, r := range requirements {
		err := r.have()
		switch {
		case err == nil:
		case errors.Is(err, ebpf.ErrNotSupported):
			return fmt.Errorf("cannot load %s: kernel %s has no %s, which came with Linux %s\n"+
				"boot a kernel of at least %s", o.Name, release, r.what, r.since, o.MinimumKernel)
		case errors.Is(err, os.ErrPermission):
			return fmt.Errorf("cannot load %s: %w\n%s", o.Name, err, hintPrivilege)
		default:
			return fmt.Errorf("cannot load %s: cannot find out whether kernel %s has %s: %w", o.Name, release, r.what, err)
		}
	}
	return nil
}

func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "(unknown)"
	}
	return unix.ByteSliceToString(u.Release[:])
}
