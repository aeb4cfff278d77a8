package kerneltest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/node"
)

// info is what grubby --info=ALL prints: EL7's C program quotes args only, the
// script of EL8 and later quotes all, and appends GRUB's variables.
func (n *Node) info() string {
	var b strings.Builder
	for i, e := range n.entries {
		if n.flavour == EL7 {
			fmt.Fprintf(&b, "index=%d\nkernel=%s\nargs=%q\nroot=UUID=1\ninitrd=%s\ntitle=%s\n", i, e.Kernel, e.Args, e.Initrd, e.Title)
		} else {
			fmt.Fprintf(&b, "index=%d\nkernel=%q\nargs=%q\nroot=%q\ninitrd=%q\ntitle=%q\nid=%q\n", i, e.Kernel, e.Args, "UUID=1", e.Initrd+" $tuned_initrd", e.Title, e.ID)
		}
	}
	if n.flavour == EL7 {
		fmt.Fprintf(&b, "index=%d\nnon linux entry\n", len(n.entries))
	}
	return b.String()
}

// env is what grub2-editenv list prints.
func (n *Node) env() string {
	s := "saved_entry=" + n.saved + "\n"
	if n.next != "" || n.usedNext {
		s += "next_entry=" + n.next + "\n"
	}
	return s
}

// named is the entry that GRUB takes for a value of saved_entry or next_entry;
// for one that it does not know it takes the first.
func (n *Node) named(name string) node.BootEntry {
	for i, e := range n.entries {
		if name == entryName(e) || name == fmt.Sprint(i) {
			return e
		}
	}
	return n.entries[0]
}

func (n *Node) entry(release string) node.BootEntry {
	i := slices.IndexFunc(n.entries, func(e node.BootEntry) bool { return e.Release() == release })
	if i < 0 {
		panic("kerneltest: " + n.host + " has no boot entry of " + release)
	}
	return n.entries[i]
}

func entryName(e node.BootEntry) string {
	if e.ID != "" {
		return e.ID
	}
	return e.Title
}

func (n *Node) grubby(argv []string) (string, int) {
	arg := func(option string) (string, bool) {
		for _, a := range argv[1:] {
			if v, found := strings.CutPrefix(a, option+"="); found {
				return v, true
			}
		}
		return "", false
	}
	if v, ok := arg("--info"); ok && v == "ALL" {
		return n.info(), 0
	}
	if slices.Contains(argv, "--default-kernel") {
		return n.named(n.saved).Kernel + "\n", 0
	}
	if kernel, ok := arg("--set-default"); ok {
		i := slices.IndexFunc(n.entries, func(e node.BootEntry) bool { return e.Kernel == kernel })
		if i < 0 {
			return "The param " + kernel + " is incorrect\n", 1
		}
		if !n.behaviour.GrubbySetsNoDefault {
			n.makeDefault(entryName(n.entries[i]))
		}
		return "", 0
	}
	if kernel, ok := arg("--update-kernel"); ok {
		add, _ := arg("--args")
		remove, _ := arg("--remove-args")
		if !n.behaviour.GrubbySetsNoArgs {
			n.updateArgs(kernel, strings.Fields(add), strings.Fields(remove))
		}
		return "", 0
	}
	return n.unknown(argv)
}

// makeDefault sets saved_entry and counts it, if it was another one.
func (n *Node) makeDefault(name string) {
	if n.saved != name {
		n.counts.Defaults++
	}
	n.saved = name
}

// updateArgs takes arguments off before it adds; one that is added replaces
// those of its name.
func (n *Node) updateArgs(kernel string, add, remove []string) {
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

// addEntry puts a kernel's entry before the others.
func (n *Node) addEntry(release string) {
	e := node.BootEntry{
		Kernel: "/boot/vmlinuz-" + release, Initrd: "/boot/initramfs-" + release + ".img",
		Title: "CentOS Linux (" + release + ")", Args: "ro crashkernel=auto quiet",
	}
	if n.flavour != EL7 {
		e.ID = "0123456789abcdef0123456789abcdef-" + release
	}
	n.entries = append([]node.BootEntry{e}, n.entries...)
}
