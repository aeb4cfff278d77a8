package bpf

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"
)

//go:generate ./generate.sh .

// Dir is where objects lie on a node.
const Dir = "/usr/local/lib/fleetd/bpf"

// Object is one compiled BPF object. The bytes are little endian, as are all
// machines that Enterprise Linux runs on here (x86_64 and aarch64): one file
// serves both.
type Object struct {
	// Name is the object's name in the inventory variable bpf_objects.
	Name string
	// File is its file name on the node, in [Dir].
	File string
	// SHA256 is the digest of Bytes, in lower-case hexadecimal.
	SHA256 string
	// MinimumKernel is the oldest kernel that has all that the object uses.
	MinimumKernel KernelVersion
	// Bytes is the ELF file. Do not write to it.
	Bytes []byte
}

// Path is where the object lies on a node.
func (o Object) Path() string { return path.Join(Dir, o.File) }

// TCPConnect is the name of the object that reports TCP connections and how
// long they took to open. What sets its minimum: the tracepoint
// sock:inet_sock_set_state (4.16) and bpf_get_current_cgroup_id (4.18).
const TCPConnect = "tcp_connect"

//go:embed tcp_connect_bpfel.o
var tcpConnectObject []byte

var objects = []Object{
	object(TCPConnect, KernelVersion{4, 18, 0}, tcpConnectObject),
}

func object(name string, minimum KernelVersion, elf []byte) Object {
	sum := sha256.Sum256(elf)
	return Object{Name: name, File: name + ".o", SHA256: hex.EncodeToString(sum[:]), MinimumKernel: minimum, Bytes: elf}
}

// Objects lists what can be shipped, by name.
func Objects() []Object { return slices.Clone(objects) }

// Lookup finds an object by name. The error lists the names there are.
func Lookup(name string) (Object, error) {
	var names []string
	for _, o := range objects {
		if o.Name == name {
			return o, nil
		}
		names = append(names, o.Name)
	}
	return Object{}, fmt.Errorf("no BPF object is named %q; there is: %s", name, strings.Join(names, ", "))
}
