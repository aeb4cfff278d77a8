package node

import (
	"cmp"
	"path"
	"slices"
	"strconv"
	"strings"
)

func parseBoot(s sections) Boot {
	grub := assignments(s.text("default-grub"))
	sysconfig := assignments(s.text("sysconfig-kernel"))
	env := ParseGrubenv(s.ok("grubenv"))
	deadMan, _ := strings.CutPrefix(s.line("dead-man"), "# "+TrialArg)
	b := Boot{
		Entries:       ParseBootEntries(s.text("grubby-info")),
		SavedEntry:    env["saved_entry"],
		NextEntry:     env["next_entry"],
		GrubDefault:   grub["GRUB_DEFAULT"],
		GrubCfg:       parseGrubCfg(s.text("grub-cfg")),
		UpdateDefault: sysconfig["UPDATEDEFAULT"],
		DefaultKernel: sysconfig["DEFAULTKERNEL"],
		DeadMan:       deadMan,
	}
	if s.find("grubby-default").name != "" {
		b.Default = ParseDefaultKernel(s.ok("grubby-default"))
	} else {
		b.Default = b.saved().Kernel
	}
	// EL8 and later have the folder and at least a rescue entry in it; an EL7
	// that once was upgraded in place may have an empty one.
	b.BLS = slices.ContainsFunc(lines(s.ok("bls")), func(l string) bool { return strings.HasSuffix(l, ".conf") }) &&
		grub["GRUB_ENABLE_BLSCFG"] != "false"
	return b
}

// mainGrubCfg is the grub.cfg in force on BIOS, and on EFI from EL9 on, where the
// one beside the boot loader only leads to it.
const mainGrubCfg = "/boot/grub2/grub.cfg"

// parseGrubCfg reads the lines "PATH:LINE" of every grub.cfg, and on EFI
// "\EFI\centos" before, which is where the firmware's boot loader came from.
func parseGrubCfg(text string) GrubCfg {
	files, beside, loader := map[string][]string{}, []string(nil), ""
	for _, l := range lines(text) {
		file, line, found := strings.Cut(l, ":")
		if !found {
			if i := strings.LastIndexByte(l, '\\'); i >= 0 {
				loader = strings.ToLower(l[i+1:])
			}
			continue
		}
		if files[file] == nil && file != mainGrubCfg {
			beside = append(beside, file)
		}
		files[file] = append(files[file], strings.TrimSpace(line))
	}
	if len(beside) > 1 {
		beside = slices.DeleteFunc(beside, func(file string) bool { return strings.ToLower(path.Base(path.Dir(file))) != loader })
		if len(beside) != 1 {
			return GrubCfg{}
		}
	}
	c := GrubCfg{Path: mainGrubCfg}
	if len(beside) == 1 && !leadsOn(files[beside[0]]) {
		c.Path = beside[0]
	}
	if files[c.Path] == nil {
		return GrubCfg{}
	}
	for _, l := range files[c.Path] {
		value, isDefault := strings.CutPrefix(l, "set default=")
		switch value = unquote(value); {
		case isDefault && value == "${next_entry}":
			c.Next = true
		// grub2-mkconfig sets it first; what comes later is set only where a boot is
		// counted (greenboot).
		case isDefault && c.Default == "":
			c.Default = value
		case strings.HasPrefix(l, "submenu"):
			c.Submenus = true
		}
	}
	c.Next = c.Next && slices.ContainsFunc(files[c.Path], func(l string) bool { return strings.HasPrefix(l, "save_env") && strings.Contains(l, "next_entry") })
	return c
}

// leadsOn tells a grub.cfg that only has another one read.
func leadsOn(lines []string) bool {
	has := func(start string) bool {
		return slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, start) })
	}
	return has("configfile") && !has("set default=")
}

// brokenGrubby: an exit status of 0 proves nothing, another one does. A node
// without grubby has no entries, which the preflight says.
func brokenGrubby(s section) error {
	if s.status == 0 || s.status == 127 {
		return nil
	}
	return broken("grubby", s, "", "grubby --info=ALL; ls -l /boot/loader/entries /boot/grub2; yum reinstall -y grubby")
}

// saved is the default entry as grubby's script finds it (get_default_index in
// grubby-bls): by saved_entry as an index, an id or a title, the first if there is
// none, and no entry if it names none.
func (b Boot) saved() BootEntry {
	for _, e := range b.Entries {
		switch b.SavedEntry {
		case "", e.ID, e.Title, strconv.Itoa(e.Index):
			return e
		}
	}
	return BootEntry{}
}

// ParseBootEntries reads `grubby --info=ALL` in both dialects: EL7's C program
// quotes nothing but args, EL8's script quotes all values and adds id. An entry
// that boots no Linux ("non linux entry") is left out.
func ParseBootEntries(text string) []BootEntry {
	var out []BootEntry
	for _, l := range lines(text) {
		key, value, found := strings.Cut(strings.TrimSpace(l), "=")
		if !found {
			continue
		}
		if key == "index" {
			n, err := strconv.Atoi(value)
			if err != nil {
				continue
			}
			out = append(out, BootEntry{Index: n})
			continue
		}
		if len(out) == 0 {
			continue
		}
		e := &out[len(out)-1]
		value = grubbyValue(value)
		switch key {
		case "kernel":
			e.Kernel = underBoot(value)
		case "initrd":
			// EL8 appends GRUB variables: "/boot/initramfs-….img $tuned_initrd".
			first, _, _ := strings.Cut(value, " ")
			e.Initrd = underBoot(first)
		case "root":
			e.Root = value
		case "args":
			e.Args = strings.Join(strings.Fields(value), " ")
		case "title":
			e.Title = value
		case "id":
			e.ID = value
		}
	}
	return slices.DeleteFunc(out, func(e BootEntry) bool { return e.Kernel == "" })
}

// grubbyValue takes off the outer quotes only: args may have quotes within.
func grubbyValue(v string) string {
	v = strings.TrimSpace(v)
	if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
		v = v[1 : len(v)-1]
	}
	return v
}

// underBoot gives a path as the running system sees it. Some grubby print the
// path as GRUB sees it, without /boot where that is a file system of its own.
func underBoot(p string) string {
	if p == "" || strings.HasPrefix(p, "/boot/") || path.Dir(p) != "/" {
		return p
	}
	return "/boot" + p
}

// ParseDefaultKernel reads what `grubby --default-kernel` printed, "" if that is
// no path.
func ParseDefaultKernel(text string) string {
	for _, l := range lines(text) {
		if l = strings.TrimSpace(l); strings.HasPrefix(l, "/") {
			return underBoot(l)
		}
	}
	return ""
}

// parseGrubenv reads "1024 /boot/grub2/grubenv" and what lies below that path.
func parseGrubenv(s sections, f Facts) Grubenv {
	bytes, file, found := strings.Cut(s.line("grubenv-path"), " ")
	if !found {
		return Grubenv{}
	}
	g := Grubenv{Path: file, Size: size(bytes)}
	if m, ok := f.Mount(file); ok {
		g.Mount, g.FS = m.Point, m.Type
	}
	// multipath is a plain disk to the firmware; the others are layers that
	// GRUB can read through but not write through.
	g.Stack = slices.DeleteFunc(parseWords(s.text("grubenv-stack"), "layer"), func(l string) bool { return l == "multipath" })
	if len(g.Stack) == 0 {
		g.Stack = nil
	}
	return g
}

// parseKernels reads "RELEASE IMAGE INITRAMFS yes|no DRIVER...".
func parseKernels(text string) []Kernel {
	var out []Kernel
	for _, l := range lines(text) {
		w := strings.Fields(l)
		if len(w) < 4 || (w[3] != "yes" && w[3] != "no") {
			continue
		}
		k := Kernel{Release: w[0], Image: size(w[1]), Initramfs: size(w[2]), Modules: w[3] == "yes"}
		if len(w) > 4 {
			k.MissingDrivers = w[4:]
		}
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b Kernel) int { return cmp.Compare(a.Release, b.Release) })
	return out
}

// ParseGrubenv reads what `grub2-editenv list` printed.
func ParseGrubenv(text string) map[string]string {
	out := map[string]string{}
	for _, l := range lines(text) {
		if name, value, found := strings.Cut(l, "="); found {
			out[name] = value
		}
	}
	return out
}

// parseFailedTrials reads lines "RELEASE RUN TIME", the last of a release last.
func parseFailedTrials(text string) map[string]string {
	var out map[string]string
	for _, l := range lines(text) {
		if w := strings.Fields(l); len(w) == 3 {
			if out == nil {
				out = map[string]string{}
			}
			out[w[0]] = w[2]
		}
	}
	return out
}

// parseTrial reads what Trial.String wrote.
func parseTrial(text string) Trial {
	first, before, _ := strings.Cut(strings.TrimSpace(text), "\n")
	w := strings.Fields(first)
	if len(w) != 3 || before == "" {
		return Trial{}
	}
	return Trial{Run: w[0], From: w[1], To: w[2], Before: before}
}
