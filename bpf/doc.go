// Package bpf holds fleetd's BPF programs: C source, the compiled objects, the
// loader and the decoder of what they report, and the module fleetd.bpf.object
// that ships the objects to the nodes.
//
// [Objects] lists what can be shipped, by the names that the inventory variable
// bpf_objects uses. An [Object] is the bytes of one compiled file with its
// SHA-256 digest and the oldest kernel that it loads on.
//
// On a node (Linux, root or CAP_BPF with CAP_PERFMON) [Load] checks the kernel,
// picks the program that fits its tracepoint and loads it; [Collection.Attach]
// starts it; [Collection.Events], [Collection.Histogram] and
// [Collection.Counters] read it; [Collection.Close] takes all of it away again:
// nothing is pinned, so nothing stays behind a reader that dies.
//
// Programs attach to tracepoints only. Calico removes the clsact qdiscs of its
// interfaces when its eBPF data plane is turned off, and a tcx program of its
// own ends the chain before any tc program runs: a program of ours there would
// be removed or blind.
//
// The layouts of events and maps are versioned and documented in README.md.
package bpf
