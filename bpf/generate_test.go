package bpf

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
)

// needClang skips a test that compiles C where that cannot be done. The objects
// are committed, so that building fleetd takes no clang; but then nobody has
// checked here that they are what the source says. In CI (the variable CI is
// set) clang has to be there.
func needClang(t *testing.T) {
	t.Helper()
	var missing []string
	for _, tool := range []string{"clang", "llvm-strip"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, tool)
		}
	}
	if _, err := os.Stat("/usr/include/bpf/bpf_helpers.h"); err != nil {
		missing = append(missing, "bpf/bpf_helpers.h")
	}
	if len(missing) == 0 {
		return
	}
	message := fmt.Sprintf("NOT CHECKED: whether the committed BPF objects are those of their source, for want of %s: apt-get install clang llvm libbpf-dev linux-libc-dev", strings.Join(missing, ", "))
	if os.Getenv("CI") != "" {
		t.Fatal(message)
	}
	t.Skip(message)
}

// TestObjectsAreCurrent compiles the objects again, from a copy of the sources in
// another folder, and compares: neither the source is newer than the object nor
// does the object depend on where it was made.
func TestObjectsAreCurrent(t *testing.T) {
	needClang(t)
	dir := t.TempDir()
	for _, name := range []string{"generate.sh", "tcp_connect.c"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(filepath.Join(dir, "generate.sh"), dir).CombinedOutput(); err != nil {
		t.Fatalf("generate.sh: %v\n%s", err, out)
	}
	for _, o := range Objects() {
		again, err := os.ReadFile(filepath.Join(dir, o.Name+"_bpfel.o"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again, o.Bytes) {
			version, _ := exec.Command("clang", "--version").Output()
			line, _, _ := strings.Cut(string(version), "\n")
			t.Errorf("%s_bpfel.o is not what its source compiles to with %s (the committed ones are Debian 12's, clang 14.0.6): go generate ./bpf", o.Name, line)
		}
	}
}

// TestLayoutsAreTheCompiledOnes lets the compiler say where the fields are that
// the decoder and the loader read.
func TestLayoutsAreTheCompiledOnes(t *testing.T) {
	needClang(t)
	var c strings.Builder
	source, err := filepath.Abs("tcp_connect.c")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&c, "#include %q\n", source)
	assert := func(structure, field string, offset int) {
		fmt.Fprintf(&c, "_Static_assert(__builtin_offsetof(struct %s, %s) == %d, \"struct %s: %s is not at %d\");\n", structure, field, offset, structure, field, offset)
	}
	for field, offset := range map[string]int{
		"version": offVersion, "length": offLength, "outcome": offOutcome, "family": offFamily, "timestamp_ns": offTimestamp,
		"latency_ns": offLatency, "cgroup_id": offCgroup, "pid": offPID, "tid": offTID, "uid": offUID, "sport": offSport,
		"dport": offDport, "saddr": offSaddr, "daddr": offDaddr, "comm": offComm,
	} {
		assert("event", field, offset)
	}
	for i, structure := range []string{"record_u16", "record_u8"} {
		for field, at := range recordLayouts[i].fields {
			assert(structure, field, at.offset)
			fmt.Fprintf(&c, "_Static_assert(sizeof(((struct %s *)0)->%s) == %d, \"size of %s\");\n", structure, field, at.size, field)
		}
	}
	fmt.Fprintf(&c, "_Static_assert(SLOTS == %d && EVENT_VERSION == %d && sizeof(struct event) == %d, \"constants\");\n", Slots, eventVersion, eventLength)
	arch, err := exec.Command("uname", "-m").Output()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("clang", "-target", "bpfel", "-fsyntax-only", "-idirafter", "/usr/include/"+strings.TrimSpace(string(arch))+"-linux-gnu", "-x", "c", "-")
	cmd.Stdin = strings.NewReader(c.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("clang: %v\n%s", err, out)
	}
}

// TestObjectNeedsNoBTF holds the object to what makes it load on kernels without
// BTF: no CO-RE, no global data, no ring buffer. And to its licence.
func TestObjectNeedsNoBTF(t *testing.T) {
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(tcpConnectObject))
	if err != nil {
		t.Fatal(err)
	}
	if len(spec.Variables) > 0 {
		t.Errorf("the object has global data (Linux 5.2): %v", spec.Variables)
	}
	for name, m := range spec.Maps {
		switch m.Type {
		case ebpf.LRUHash, ebpf.PerfEventArray, ebpf.PerCPUArray:
		default:
			t.Errorf("map %s is a %s: which kernel has that? add it to the requirements", name, m.Type)
		}
	}
	programs := 0
	for _, l := range recordLayouts {
		p := spec.Programs[l.program]
		if p == nil {
			t.Fatalf("no program %s in the object", l.program)
		}
		programs++
		if p.Type != ebpf.TracePoint || p.AttachTo != "sock/inet_sock_set_state" {
			t.Errorf("program %s is a %s for %q: tracepoints only", l.program, p.Type, p.AttachTo)
		}
		if p.License != "Dual MIT/GPL" {
			t.Errorf("program %s has licence %q", l.program, p.License)
		}
		if len(p.Instructions) > 4096 {
			t.Errorf("program %s has %d instructions, kernels before 5.2 take 4096", l.program, len(p.Instructions))
		}
		t.Logf("%s: %d instructions", l.program, len(p.Instructions))
	}
	if programs != len(spec.Programs) {
		t.Errorf("the object has programs that no layout names: %v", spec.Programs)
	}
}
