package module

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/fleetd/fleetd/pkg/node"
)

// belowScript prints what is in a directory: type, mode, owner and group of each
// thing and its name, with a NUL after it, all in hexadecimal. With follow also what
// links lead to.
func belowScript(word string, follow bool) string {
	list := func(name, find, stat string) string {
		return fmt.Sprintf("printf 'note %s %%s\\n' \"$(%s %s -mindepth 1 -exec %s '%%f %%u %%g %%n\\0' -- {} + 2>/dev/null | hex)\"\n", name, find, word, stat)
	}
	out := "[ -d " + word + " ] && {\n" + list("below", "find -P", "stat --printf")
	if follow {
		out += list("beyond", "find -L", "stat -L --printf")
	}
	return out + "}\n"
}

// below brings what is in the directory to the attributes that are asked for.
func (d *decision) below() error {
	if d.planned {
		d.changed = true
		d.lost = append(d.lost, "owners and modes of what is in "+d.at.Path)
		return nil
	}
	if d.Owner+d.Group+d.Mode == "" {
		return nil
	}
	done := map[string]bool{}
	for _, blob := range []string{"below", "beyond"} {
		entries, err := parseBelow(d.notes[blob])
		if err != nil {
			return fmt.Errorf("cannot tell what is in %s: %w", d.at.Path, err)
		}
		for _, e := range entries {
			isLink := e.State() == node.Symlink
			if done[e.Path] && !isLink || blob == "beyond" && isLink {
				continue
			}
			done[e.Path] = !isLink
			d.lost = append(d.lost, "")
			if err := d.entry(e, isLink, blob == "beyond"); err != nil {
				return err
			}
		}
	}
	if len(d.lost) > 0 {
		d.lost = []string{"owners and modes of what is in " + d.at.Path}
	}
	return nil
}

// entry brings one thing in a directory to the attributes; beyond is set where a
// link on the way leads out of it.
func (d *decision) entry(e node.Place, isLink, beyond bool) error {
	one := *d
	one.ops, one.changed, one.fields = nil, false, nil
	if isLink {
		one.Mode = "" // that of a link is none
	}
	if err := one.attributes(e.Path, e.Self, 0, e.Self.IsDir()); err != nil {
		return err
	}
	for _, o := range one.ops {
		if beyond && o[0] != "mode" {
			o[0] += "_end"
		}
		d.ops = append(d.ops, o)
	}
	d.changed = d.changed || one.changed
	return nil
}

func parseBelow(blob string) ([]node.Place, error) {
	raw, err := hex.DecodeString(blob)
	if err != nil {
		return nil, fmt.Errorf("its answer is no list: %w", err)
	}
	var out []node.Place
	for entry := range strings.SplitSeq(string(raw), "\x00") {
		if entry == "" {
			continue
		}
		w := strings.SplitN(entry, " ", 4)
		if len(w) != 4 {
			return nil, fmt.Errorf("its answer is no list: %q", entry)
		}
		mode, err1 := strconv.ParseUint(w[0], 16, 32)
		uid, err2 := strconv.Atoi(w[1])
		gid, err3 := strconv.Atoi(w[2])
		if err1 != nil || err2 != nil || err3 != nil {
			return nil, fmt.Errorf("its answer is no list: %q", entry)
		}
		out = append(out, node.Place{Path: w[3], File: node.File{Self: &node.Inode{Mode: uint32(mode), UID: uid, GID: gid}}})
	}
	return out, nil
}
