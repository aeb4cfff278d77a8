package kerneltest

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/node"
)

// info is what grubby --info=ALL prints: EL7's C program quotes args only, the
// script of EL8 and later quotes all, and appends GRUB's variables, of which it
// writes out $kernelopts.
func (n *Node) info() string {
	var b strings.Builder
	for i, e := range n.entries {
		if n.flavour == EL7 {
			fmt.Fprintf(&b, "index=%d\nkernel=%s\nargs=%q\nroot=UUID=1\ninitrd=%s\ntitle=%s\n", i, e.Kernel, e.Args, e.Initrd, e.Title)
		} else {
			fmt.Fprintf(&b, "index=%d\nkernel=%q\nargs=%q\nroot=%q\ninitrd=%q\ntitle=%q\nid=%q\n", i, e.Kernel, expanded(e.Args), "UUID=1", e.Initrd+" $tuned_initrd", e.Title, e.ID)
		}
	}
	if n.flavour == EL7 {
		fmt.Fprintf(&b, "index=%d\nnon linux entry\n", len(n.entries))
	}
	return b.String()
}

// expanded is what grubby makes of an entry's arguments: their variable is
// kernelopts in grubenv.
func expanded(args string) string { return strings.ReplaceAll(args, "$kernelopts", siteArgs) }

const siteArgs = "ro crashkernel=auto quiet"

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
		if n.flavour == EL7 && n.behaviour.GrubDefault != node.SavedEntry {
			n.behaviour.GrubDefault = ""
		}
		if !n.behaviour.GrubbySetsNoDefault {
			n.makeDefault(entryName(n.entries[i]))
		}
		return "", 0
	}
	add, _ := arg("--args")
	remove, _ := arg("--remove-args")
	if kernel, ok := arg("--update-kernel"); ok {
		for i, e := range n.entries {
			if n.meant(kernel, i) {
				n.entries[i].Args = n.updated(e.Args, strings.Fields(add), strings.Fields(remove))
			}
		}
		return "", 0
	}
	if kernel, ok := arg("--add-kernel"); ok && n.flavour == EL7 && slices.Contains(argv, "--copy-default") {
		title, _ := arg("--title")
		initrd, _ := arg("--initrd")
		n.addCopy(kernel, initrd, title, strings.Fields(add))
		return "", 0
	}
	if kernel, ok := arg("--remove-kernel"); ok && n.flavour == EL7 {
		n.removeEntries(func(i int) bool { return n.meant(kernel, i) && !n.behaviour.TrialStays })
		return "", 0
	}
	return n.unknown(argv)
}

// meant tells whether grubby takes an entry for the path or index that it was given.
func (n *Node) meant(param string, i int) bool {
	return param == n.entries[i].Kernel || param == fmt.Sprint(i)
}

// addCopy is C grubby's --add-kernel --copy-default: whatever kernel is added,
// the default entry is copied, and the copy is the first.
func (n *Node) addCopy(kernel, initrd, title string, add []string) {
	if n.behaviour.NoTrialEntry {
		return
	}
	e := n.named(n.saved)
	e.Kernel, e.Initrd, e.Title = kernel, initrd, title
	add = slices.DeleteFunc(add, func(a string) bool { return a == "root=UUID=1" }) // info prints it
	e.Args = n.updated(e.Args, add, nil)
	n.entries = append([]node.BootEntry{e}, n.entries...)
	if n.behaviour.AddingBreaks {
		n.behaviour.GrubDefault = ""
	}
	if n.behaviour.AddingMovesDefault {
		n.saved = e.Title
	}
}

// removeEntries removes entries. C grubby makes the first one the default if
// the default is among them.
func (n *Node) removeEntries(which func(i int) bool) {
	was, left := n.named(n.saved), []node.BootEntry{}
	for i, e := range n.entries {
		if !which(i) {
			left = append(left, e)
		}
	}
	n.entries = left
	if n.flavour == EL7 && len(left) > 0 && !slices.Contains(left, was) {
		n.saved = entryName(left[0])
	}
}

// copyFile is the script that copies an entry's file with other arguments. The
// copy's name makes it the next one, and its arguments keep their variables.
func (n *Node) copyFile(env map[string]string) (string, int) {
	if n.behaviour.NoTrialEntry {
		return "cp: error writing: No space left on device\n", 1
	}
	id := func(file string) string { return strings.TrimSuffix(path.Base(file), ".conf") }
	i := slices.IndexFunc(n.entries, func(e node.BootEntry) bool { return e.ID == id(env["real"]) })
	if i < 0 || n.flavour == EL7 {
		return "cp: cannot stat: No such file or directory\n", 1
	}
	e := n.entries[i]
	e.ID, e.Title, e.Args = id(env["trial"]), env["title"], e.Args+" "+env["args"]
	n.entries = slices.Insert(n.entries, i+1, e)
	return "", 0
}

// remove is rm of an entry's file.
func (n *Node) remove(file string) (string, int) {
	switch file {
	case node.StageDir + "/staged":
		n.staged.answer = ""
	case "/var/lib/fleetd/trial":
		n.trial = ""
	case node.StageDir:
		n.staged = staged{}
	}
	n.removeEntries(func(i int) bool {
		return !n.behaviour.TrialStays && "/boot/loader/entries/"+n.entries[i].ID+".conf" == file
	})
	return "", 0
}

// makeDefault sets saved_entry and counts it, if it was another one.
func (n *Node) makeDefault(name string) {
	if n.saved != name {
		n.counts.Defaults++
	}
	n.saved = name
}

// updated is an entry's arguments after grubby has changed them: from then on
// variables are written out. An argument that is added replaces all of its name;
// C grubby replaces the first that it has not yet put there itself.
func (n *Node) updated(args string, add, remove []string) string {
	words := strings.Fields(expanded(args))
	put := make([]bool, len(words))
	for _, a := range add {
		name, _, _ := strings.Cut(a, "=")
		same := func(w string) bool { return w == name || strings.HasPrefix(w, name+"=") }
		at := -1
		for i, w := range words {
			if at < 0 && same(w) && !put[i] {
				at = i
			}
		}
		switch {
		case n.flavour != EL7:
			words = append(slices.DeleteFunc(words, same), a)
		case at >= 0:
			words[at], put[at] = a, true
		default:
			words, put = append(words, a), append(put, true)
		}
	}
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return slices.Contains(remove, w) }), " ")
}

// addEntry puts a kernel's entry before the others.
func (n *Node) addEntry(release string) {
	e := node.BootEntry{
		Kernel: "/boot/vmlinuz-" + release, Initrd: "/boot/initramfs-" + release + ".img",
		Title: "CentOS Linux (" + release + ")", Args: siteArgs,
	}
	switch n.flavour {
	case EL8:
		e.Args = "$kernelopts $tuned_params"
	case EL9:
		e.Args = siteArgs + " $tuned_params"
	}
	if n.flavour != EL7 {
		e.ID = "0123456789abcdef0123456789abcdef-" + release
	}
	n.entries = append([]node.BootEntry{e}, n.entries...)
}
