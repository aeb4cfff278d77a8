package node

import (
	"cmp"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
)

func parseOSRelease(text string) OS {
	v := assignments(text)
	os := OS{ID: v["ID"], VersionID: v["VERSION_ID"], Name: v["PRETTY_NAME"]}
	if like := strings.Fields(v["ID_LIKE"]); len(like) > 0 {
		os.IDLike = like
	}
	major, _, _ := strings.Cut(os.VersionID, ".")
	os.Major = number(major)
	return os
}

// parseMachineID takes the first line that is a machine-id: an empty file is
// none, and "uninitialized" is what systemd writes where there is to be one.
func parseMachineID(text string) string {
	for _, l := range lines(text) {
		id := strings.ToLower(strings.TrimSpace(l))
		if raw, err := hex.DecodeString(id); err == nil && len(raw) == 16 && strings.Trim(id, "0") != "" {
			return id
		}
	}
	return ""
}

// parseMounts joins `df -P`, which knows sizes, with /proc/mounts, which knows
// types and options.
func parseMounts(df, mounts string) []Mount {
	type info struct {
		source, fstype string
		ro             bool
	}
	known := map[string]info{}
	for _, l := range lines(mounts) {
		w := strings.Fields(l)
		if len(w) < 4 {
			continue
		}
		// A later line covers an earlier one at the same place.
		known[unescapeMount(w[1])] = info{unescapeMount(w[0]), w[2], slices.Contains(strings.Split(w[3], ","), "ro")}
	}
	var out []Mount
	for _, l := range lines(df) {
		w := strings.Fields(l)
		// A warning of df about some other mount is not of this shape. From the
		// right: a source may contain spaces.
		n := len(w)
		if n < 6 || !strings.HasSuffix(w[n-2], "%") || !strings.HasPrefix(w[n-1], "/") {
			continue
		}
		point := w[n-1]
		if slices.ContainsFunc(out, func(m Mount) bool { return m.Point == point }) {
			continue
		}
		in := known[point]
		out = append(out, Mount{
			Point:    point,
			Source:   cmp.Or(in.source, w[0]),
			Type:     in.fstype,
			ReadOnly: in.ro,
			Size:     kibibytes(w[n-5]),
			Free:     kibibytes(w[n-3]),
		})
	}
	slices.SortFunc(out, func(a, b Mount) int { return cmp.Compare(a.Point, b.Point) })
	return out
}

// kibibytes turns a number of KiB into bytes; what does not fit is taken as none.
func kibibytes(s string) int64 {
	n := size(s)
	if n > (1<<63-1)/1024 {
		return 0
	}
	return n * 1024
}

// unescapeMount undoes the octal escapes of /proc/mounts (a space is \040).
func unescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func parseInterfaces(text string) []Interface {
	var out []Interface
	for _, l := range lines(text) {
		w := strings.Fields(l)
		if len(w) < 3 || len(w) > 4 {
			continue
		}
		mtu, err := strconv.Atoi(w[1])
		if err != nil {
			continue
		}
		i := Interface{Name: w[0], MTU: mtu, State: w[2]}
		if len(w) == 4 {
			i.Driver = w[3]
		}
		out = append(out, i)
	}
	slices.SortFunc(out, func(a, b Interface) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// parseTaint reads `grep . /sys/module/*/taint`: O is out of tree, P is
// proprietary. E (unsigned) alone is not enough: an EL kernel's own module
// carries it when the key ring is another's.
func parseTaint(text string) []string {
	var out []string
	for _, l := range lines(text) {
		path, flags, found := strings.Cut(l, ":")
		name, isTaint := strings.CutSuffix(strings.TrimPrefix(path, "/sys/module/"), "/taint")
		if found && isTaint && strings.ContainsAny(flags, "OP") {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// parseSecureBoot understands the EFI variable (four bytes of attributes, then
// the value; the older sysfs file has the value alone) and mokutil's sentence.
func parseSecureBoot(text string) (efi bool, state string) {
	for _, l := range lines(text) {
		switch w := strings.Fields(l); {
		case l == "efi":
			efi = true
		case len(w) > 1 && w[0] == "bytes":
			state = map[string]string{"1": "enabled", "0": "disabled"}[w[len(w)-1]]
		case strings.Contains(l, "SecureBoot enabled"):
			state = "enabled"
		case strings.Contains(l, "SecureBoot disabled"):
			state = "disabled"
		}
	}
	return efi, state
}

func parseKdump(text string) Kdump {
	var k Kdump
	for _, l := range lines(text) {
		switch strings.TrimSpace(l) {
		case "enabled":
			k.Enabled = true
		case "loaded 1":
			k.Loaded = true
		}
	}
	return k
}

// parseCgroup reads the file system type of /sys/fs/cgroup: version 1 mounts a
// tmpfs there with one hierarchy per controller in it.
func parseCgroup(fstype string) int {
	switch fstype {
	case "cgroup2fs":
		return 2
	case "tmpfs":
		return 1
	}
	return 0
}

// parseKubelet reads "Kubernetes v1.34.4".
func parseKubelet(text string) string {
	for _, l := range lines(text) {
		if v, found := strings.CutPrefix(l, "Kubernetes v"); found {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
