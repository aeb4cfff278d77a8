package module

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// observing is what the modules have in common that look at a node in the run and
// change nothing.
type observing struct{ hosts Hosts }

func (observing) Reads(rollout.Args) []rollout.Read {
	return []rollout.Read{{Section: node.Section.Name(), Key: node.MachineKey}}
}

func (observing) Undo(context.Context, rollout.Step) rollout.Outcome {
	return rollout.AlreadyDone("there is nothing to take back")
}

// statModule is ansible.builtin.stat.
type statModule struct{ observing }

// statCall is what is looked at.
type statCall struct {
	Path   string `json:"path"`
	Follow bool   `json:"follow,omitempty"`
	Sum    string `json:"sum,omitempty"`
	MD5    bool   `json:"md5,omitempty"`
	MIME   bool   `json:"mime,omitempty"`
	Attrs  bool   `json:"attrs,omitempty"`
}

func (statModule) About() rollout.About {
	algorithms := []string{"md5", "sha1", "sha224", "sha256", "sha384", "sha512"}
	p := rollout.Params{
		"get_md5": {Type: rollout.Bool, Help: "the MD5 too"}, "get_checksum": {Type: rollout.Bool, Help: "the checksum (true)"},
		"follow": {Type: rollout.Bool, Help: "what a link leads to"},
	}
	for _, name := range []string{"path", "dest", "name"} {
		p[name] = rollout.Param{Type: rollout.String, Help: "the path"}
	}
	for _, name := range []string{"get_mime", "mime", "mime_type", "mime-type"} {
		p[name] = rollout.Param{Type: rollout.Bool, Help: "what file says of it (true)"}
	}
	for _, name := range []string{"get_attributes", "attr", "attributes"} {
		p[name] = rollout.Param{Type: rollout.Bool, Help: "what lsattr says of it (true)"}
	}
	for _, name := range []string{"checksum_algorithm", "checksum", "checksum_algo"} {
		p[name] = rollout.Param{Type: rollout.String, Choices: algorithms, Help: "how the checksum is made (sha1)"}
	}
	return rollout.About{Open: rollout.ReadOnly, Params: p}
}

func (statModule) Diff(host string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	c := statCall{
		Path:   or(text(args, "path"), or(text(args, "dest"), text(args, "name"))),
		Follow: set(args, "follow"), MD5: set(args, "get_md5"),
		MIME:  flag(args, "get_mime") && flag(args, "mime") && flag(args, "mime_type") && flag(args, "mime-type"),
		Attrs: flag(args, "get_attributes") && flag(args, "attr") && flag(args, "attributes"),
	}
	if c.Path == "" {
		return rollout.Change{}, nil, missing("stat", "path")
	}
	if flag(args, "get_checksum") {
		c.Sum = or(text(args, "checksum_algorithm"), or(text(args, "checksum"), or(text(args, "checksum_algo"), "sha1")))
	}
	return rollout.Change{Action: rollout.ReadOnly, Summary: "stat: " + oneLine(c.Path), Data: encode(c)}, before, nil
}

// script prints what is at the path: the line of numbers and then notes, the words of
// which are in hexadecimal where others named them.
func (c statCall) script() string {
	p := expanded(c.Path)
	follow, there := "", "[ -e \"$p\" ] || [ -L \"$p\" ]"
	if c.Follow {
		follow, there = "-L ", "[ -e \"$p\" ]"
	}
	var b strings.Builder
	b.WriteString("p=" + p + "\nwritten=$p\ncase $p in -*) p=./$p ;; esac\n")
	b.WriteString("printf 'note path %s\\n' \"$(printf %s \"$written\" | hex)\"\n")
	b.WriteString("if " + there + "; then\n")
	b.WriteString("printf 'note stat %s\\n' \"$(stat " + follow + "-c '%f %u %g %s %i %d %h %X %Y %Z %b %o %t %T:%U:%G' -- \"$p\")\"\n")
	b.WriteString("printf 'note times %s\\n' \"$(stat " + follow + "-c '%.9X %.9Y %.9Z' -- \"$p\" 2>/dev/null)\"\n")
	b.WriteString("a=; [ -r \"$p\" ] && a=r; [ -w \"$p\" ] && a=${a}w; [ -x \"$p\" ] && a=${a}x; echo note access \"$a\"\n")
	b.WriteString("[ ! -L \"$p\" ] || { printf 'note target %s\\n' \"$(readlink -n -- \"$p\" | hex)\"; printf 'note source %s\\n' \"$(readlink -nf -- \"$p\" | hex)\"; }\n")
	sum := func(name, algorithm string) {
		b.WriteString("[ ! -f \"$p\" ] || [ ! -r \"$p\" ] || printf 'note " + name + " %s\\n' \"$(" + algorithm + "sum <\"$p\" | cut -d ' ' -f 1)\"\n")
	}
	if c.Sum != "" {
		sum("sum", c.Sum)
	}
	if c.MD5 {
		sum("md5", "md5")
	}
	if c.MIME {
		b.WriteString("printf 'note mime %s\\n' \"$(command file --mime-type --mime-encoding -- \"$p\" 2>/dev/null | hex)\"\n")
	}
	if c.Attrs {
		b.WriteString("printf 'note attrs %s\\n' \"$(lsattr -vd -- \"$p\" 2>/dev/null | hex)\"\n")
	}
	b.WriteString("fi\n")
	return node.LookScript(nil, b.String()) + "sees\n"
}

func (m statModule) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	var c statCall
	if err := json.Unmarshal(s.Change.Data, &c); err != nil {
		return rollout.Fail(fmt.Errorf("cannot read what is to be looked at: %w", err))
	}
	res, err := run(ctx, m.hosts, s, sshexec.Command{Script: c.script(), MaxOutput: mostOutput})
	if err != nil {
		return rollout.Fail(err)
	}
	seen, err := node.ParseLook(res)
	if err != nil {
		return rollout.Fail(fmt.Errorf("cannot look at %s on %s: %w", oneLine(c.Path), s.Host, err))
	}
	o := rollout.AlreadyDone("%s is not there", oneLine(c.Path))
	stat := map[string]any{"exists": false}
	if _, there := seen.Notes["stat"]; there {
		if stat, err = c.stat(seen.Notes); err != nil {
			return rollout.Fail(fmt.Errorf("cannot look at %s on %s: %w", oneLine(c.Path), s.Host, err))
		}
		o = rollout.AlreadyDone("%s is there, with mode %s", oneLine(c.Path), stat["mode"])
	}
	o.Result = encode(map[string]any{"changed": false, "failed": false, "stat": stat})
	return o
}

// stat is what Ansible's module says of a path that is there.
func (c statCall) stat(notes map[string]string) (map[string]any, error) {
	parts := strings.SplitN(notes["stat"], ":", 3)
	w := strings.Fields(parts[0])
	if len(parts) != 3 || len(w) != 14 {
		return nil, fmt.Errorf("stat says %q", notes["stat"])
	}
	n := make([]int64, len(w))
	for i, x := range w {
		base := 10
		if i == 0 || i >= 12 {
			base = 16
		}
		n[i], _ = strconv.ParseInt(x, base, 64)
	}
	mode := uint32(n[0])
	is := func(kind uint32) bool { return mode&0o170000 == kind }
	bit := func(b uint32) bool { return mode&b != 0 }
	out := map[string]any{
		"exists": true, "path": unhexed(notes["path"]), "mode": fmt.Sprintf("%04o", mode&0o7777),
		"isdir": is(0o040000), "ischr": is(0o020000), "isblk": is(0o060000), "isreg": is(0o100000), "isfifo": is(0o010000), "islnk": is(0o120000), "issock": is(0o140000),
		"uid": n[1], "gid": n[2], "size": n[3], "inode": n[4], "dev": n[5], "nlink": n[6], "atime": n[7], "mtime": n[8], "ctime": n[9],
		"blocks": n[10], "block_size": n[11], "device_type": n[12]<<8 | n[13],
		"wusr": bit(0o200), "rusr": bit(0o400), "xusr": bit(0o100), "wgrp": bit(0o020), "rgrp": bit(0o040), "xgrp": bit(0o010),
		"woth": bit(0o002), "roth": bit(0o004), "xoth": bit(0o001), "isuid": bit(0o4000), "isgid": bit(0o2000),
		"readable": strings.Contains(notes["access"], "r"), "writeable": strings.Contains(notes["access"], "w"), "executable": strings.Contains(notes["access"], "x"),
	}
	for i, t := range strings.Fields(notes["times"]) {
		if f, err := strconv.ParseFloat(t, 64); err == nil && !math.IsNaN(f) && i < 3 {
			out[[]string{"atime", "mtime", "ctime"}[i]] = f
		}
	}
	for i, key := range []string{"pw_name", "gr_name"} {
		if parts[i+1] != "UNKNOWN" {
			out[key] = parts[i+1]
		}
	}
	if is(0o120000) {
		out["lnk_source"], out["lnk_target"] = unhexed(notes["source"]), unhexed(notes["target"])
	}
	if sum, ok := notes["sum"]; ok && is(0o100000) {
		out["checksum"] = sum
	}
	if sum, ok := notes["md5"]; ok && is(0o100000) {
		out["md5"] = sum
	}
	if c.MIME {
		out["mimetype"], out["charset"] = mime(unhexed(notes["mime"]))
	}
	if c.Attrs {
		out["version"], out["attributes"], out["attr_flags"] = nil, []string{}, ""
		if a := strings.Fields(unhexed(notes["attrs"])); len(a) > 1 {
			flags := strings.ReplaceAll(a[1], "-", "")
			names := []string{}
			for _, r := range flags {
				if name, known := attributeNames[r]; known {
					names = append(names, name)
				}
			}
			out["version"], out["attributes"], out["attr_flags"] = a[0], names, flags
		}
	}
	return out, nil
}

// mime reads what file says: "PATH: text/plain; charset=us-ascii".
func mime(said string) (kind, charset string) {
	what := said[strings.LastIndexByte(said, ':')+1:]
	kind, charset, ok := strings.Cut(what, ";")
	_, charset, hasCharset := strings.Cut(charset, "=")
	if !ok || !hasCharset {
		return "unknown", "unknown"
	}
	return strings.TrimSpace(kind), strings.TrimSpace(charset)
}

func unhexed(s string) string {
	raw, err := hex.DecodeString(s)
	if err != nil {
		return ""
	}
	return string(raw)
}

// attributeNames are what the letters of lsattr mean.
var attributeNames = map[rune]string{
	'A': "noatime",
	'C': "nocow",
	'D': "dirsync",
	'E': "encrypted",
	'I': "indexed",
	'N': "inline",
	'S': "synchronous",
	'T': "blockroot",
	'X': "compressedraw",
	'Z': "compresseddirty",
	'a': "append",
	'c': "compressed",
	'd': "nodump",
	'e': "extents",
	'h': "blocksize",
	'i': "immutable",
	'j': "journalled",
	's': "zero",
	't': "notail",
	'u': "undelete",
}
