package kernel

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/node"
)

func (n *fakeNode) info() string {
	var b strings.Builder
	for i, e := range n.entries {
		if n.bls {
			fmt.Fprintf(&b, "index=%d\nkernel=%q\nargs=%q\nroot=%q\ninitrd=%q\ntitle=%q\nid=%q\n", i, e.Kernel, e.Args, "UUID=1", e.Initrd+" $tuned_initrd", e.Title, e.ID)
		} else {
			fmt.Fprintf(&b, "index=%d\nkernel=%s\nargs=%q\nroot=UUID=1\ninitrd=%s\ntitle=%s\n", i, e.Kernel, e.Args, e.Initrd, e.Title)
		}
	}
	fmt.Fprintf(&b, "index=%d\nnon linux entry\n", len(n.entries))
	return b.String()
}

func (n *fakeNode) env() string {
	s := "saved_entry=" + n.saved + "\n"
	if n.next != "" || n.boots > 1 {
		s += "next_entry=" + n.next + "\n" // GRUB leaves an empty one behind
	}
	return s
}

func (n *fakeNode) entryOf(name string) node.BootEntry {
	for i, e := range n.entries {
		if name == e.Title || name == e.ID && name != "" || name == fmt.Sprint(i) {
			return e
		}
	}
	return n.entries[0]
}

func (n *fakeNode) setDefault(release string) {
	for _, e := range n.entries {
		if e.Release() == release {
			n.saved = entryName(e)
		}
	}
}

func (n *fakeNode) updateArgs(kernel string, add, remove []string) {
	for i := range n.entries {
		e := &n.entries[i]
		if e.Kernel != kernel {
			continue
		}
		words := slices.DeleteFunc(strings.Fields(e.Args), func(w string) bool { return slices.Contains(remove, w) })
		for _, a := range add {
			name, _, _ := strings.Cut(a, "=")
			words = slices.DeleteFunc(words, func(w string) bool { return w == name || strings.HasPrefix(w, name+"=") })
			words = append(words, a)
		}
		e.Args = strings.Join(words, " ")
	}
}

func (n *fakeNode) addEntry(p node.Package) {
	r := p.Release()
	e := node.BootEntry{Kernel: "/boot/vmlinuz-" + r, Initrd: "/boot/initramfs-" + r + ".img", Title: "CentOS Linux (" + r + ")", Args: "ro quiet"}
	if n.bls {
		e.ID = "0123456789abcdef-" + r
	}
	n.entries = append([]node.BootEntry{e}, n.entries...)
}
