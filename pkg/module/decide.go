package module

import (
	"encoding/json"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/words"
)

// wish is what a task asks for at one path. All that Do needs is in it.
type wish struct {
	// Path is the path as it is written; the node puts variables and ~ in it.
	Path string `json:"path"`
	// State is Ansible's, or "content" of a file that is to hold something; "" is
	// what there is.
	State string `json:"state,omitempty"`
	// Src is where a link leads, or the file on the node that is copied.
	Src string `json:"src,omitempty"`
	// Name is what the file is called where Path turns out to be a directory.
	Name string `json:"name,omitempty"`
	// Mode is what is asked for, "preserve" being the mode of a file on the node.
	Mode    string `json:"mode,omitempty"`
	Owner   string `json:"owner,omitempty"`
	Group   string `json:"group,omitempty"`
	DirMode string `json:"directory_mode,omitempty"`
	Recurse bool   `json:"recurse,omitempty"`
	Force   bool   `json:"force,omitempty"`
	Follow  bool   `json:"follow,omitempty"`
	Backup  bool   `json:"backup,omitempty"`
	// Validate are the words of a program that has to accept a file, with %s.
	Validate []string `json:"validate,omitempty"`
	// MTime and ATime are "preserve" or "now".
	MTime string `json:"mtime,omitempty"`
	ATime string `json:"atime,omitempty"`
	// Content is what a file is to hold, nil for that of Src.
	Content *digests `json:"content,omitempty"`
	// Before is what the plan was made for; nil = the run looks.
	Before *former `json:"before,omitempty"`
}

// digests tell contents from others.
type digests struct {
	SHA256 string `json:"sha256"`
	SHA1   string `json:"sha1"`
	MD5    string `json:"md5"`
	Size   int64  `json:"size"`
	// Origin is the file on the bastion, "" for what stands in the playbook.
	Origin string `json:"origin,omitempty"`
}

// former is what was there, as far as it can be brought back.
type former struct {
	State  string `json:"state"`
	Mode   uint32 `json:"mode,omitempty"`
	UID    int    `json:"uid,omitempty"`
	GID    int    `json:"gid,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
	Link   string `json:"link,omitempty"`
}

func formerOf(f node.File) former {
	out := former{State: f.State()}
	if f.Self == nil {
		return out
	}
	out.Mode, out.UID, out.GID = f.Self.Perm(), f.Self.UID, f.Self.GID
	switch out.State {
	case node.Symlink:
		out.Mode, out.Link = 0, f.Link
	case node.Hard:
		// How many names a file has is no part of what the plan is made for.
		out.State = node.Regular
		fallthrough
	case node.Regular:
		out.SHA256 = f.SHA256
	}
	return out
}

// scene is what was seen of the node.
type scene struct {
	places map[string]node.Place
	umask  uint32
	notes  map[string]string
	// planned is set for what the facts say before the run.
	planned bool
	// modes are those that were decided on before, by path: what a symbolic mode
	// means depends on the mode that was there.
	modes map[string]uint32
}

// refusal is why a task cannot be done, in Ansible's words, with what its result
// says besides.
type refusal struct {
	msg  string
	also map[string]any
}

func (r *refusal) Error() string { return r.msg }

func refuse(also map[string]any, format string, a ...any) error {
	return &refusal{fmt.Sprintf(format, a...), also}
}

// decision is what there is to do for a wish in a scene.
type decision struct {
	wish
	scene
	// at is the place that is changed, and the key by which results name it.
	at  node.Place
	key string
	ops []op
	// writes says whether any of them changes anything that can be seen.
	changed bool
	fields  []rollout.Field
	result  map[string]any
	// lost is what cannot be brought back.
	lost []string
	// means are the modes that were asked for, by path.
	means map[string]uint32
	// content is set where the content has to be sent.
	content bool
	// bare is set where the result says nothing of what is there, sent where also a
	// failure says what the content is.
	bare, sent bool
}

// op is a call of a function of act.sh.
type op []string

func (d *decision) do(words ...string) { d.ops, d.changed = append(d.ops, words), true }

// field notes a value that changes.
func (d *decision) field(name, before, after string) {
	d.fields = append(d.fields, rollout.Field{Name: oneLine(name), Before: before, After: after})
}

// decide says what there is to do. It is pure: the plan asks it with what the facts
// say, the run with what it sees, and again afterwards, when nothing may be left.
func decide(w wish, s scene) (*decision, error) {
	d := &decision{wish: w, scene: s, at: s.places["path"], key: "path", means: map[string]uint32{}, result: map[string]any{}}
	var err error
	if w.State == contentState {
		err = d.copied()
	} else {
		err = d.file()
	}
	return d, err
}

const contentState = "content"

// attributes brings owner, group and mode of a path to what is asked for. in is
// what is there, nil for what is made with this mode.
func (d *decision) attributes(p string, in *node.Inode, fresh uint32, isDir bool) error {
	if in == nil {
		in = &node.Inode{Mode: fresh, UID: -1, GID: -1}
	}
	if d.Owner != "" && !d.same(d.Owner, "uid", in.UID, in.Owner) {
		if err := d.known("uid", "user", "chown", d.Owner, p); err != nil {
			return err
		}
		d.do("own", d.Owner, p)
		d.field(p+" owner", in.Owner, d.Owner)
	}
	if d.Group != "" && !d.same(d.Group, "gid", in.GID, in.Group) {
		if err := d.known("gid", "group", "chgrp", d.Group, p); err != nil {
			return err
		}
		d.do("group", d.Group, p)
		d.field(p+" group", in.Group, d.Group)
	}
	if d.Mode == "" {
		return nil
	}
	m, decided := d.modes[p]
	if !decided {
		var err error
		if m, err = modeOf(d.Mode, in.Perm(), isDir, d.umask); err != nil {
			return refuse(map[string]any{"path": p, "details": err.Error()}, "mode must be in octal or symbolic form")
		}
	}
	d.means[p] = m
	if m != in.Perm() {
		d.do("mode", fmt.Sprintf("%04o", m), p)
		d.field(p+" mode", shownMode(in.Perm()), shownMode(m))
	}
	return nil
}

// same reports whether a user or group is the one that is asked for. Before the run
// only names are compared.
func (d *decision) same(want, note string, id int, name string) bool {
	if n, err := strconv.Atoi(want); err == nil {
		return n == id
	}
	if d.planned {
		return want == name
	}
	n, err := strconv.Atoi(d.notes[note])
	return err == nil && n == id
}

// known refuses a user or group that the node does not know.
func (d *decision) known(note, kind, tool, want, p string) error {
	if _, err := strconv.Atoi(want); err == nil || d.planned || d.notes[note] != "" {
		return nil
	}
	return refuse(map[string]any{"path": p}, "%s failed: failed to look up %s %s", tool, kind, want)
}

// ask is one path to look at: the word for the node's shell, and the path itself
// where no shell has to make it.
type ask struct{ name, word, plain string }

// asks are the paths that a wish depends on.
func (w wish) asks() []ask {
	out := []ask{asking("path", w.Path, "")}
	if w.Name != "" {
		inner := asking("inner", w.Path, "/"+w.Name)
		inner.word = expanded(w.Path) + words.Quote("/"+w.Name) // a name is no path: nothing in it is expanded
		out = append(out, inner)
	}
	if w.State == contentState || w.State == node.Directory {
		out = append(out, asking("folder", path.Dir(w.Path), ""))
	}
	if w.Src != "" {
		out = append(out, asking("src", w.Src, ""))
	}
	if w.State == node.Symlink && w.Src != "" && !strings.HasPrefix(w.Src, "/") && !strings.HasPrefix(w.Src, "~") {
		out = append(out, asking("end", path.Dir(w.Path), "/"+w.Src), asking("end of directory", w.Path, "/"+w.Src))
	}
	return out
}

func asking(name, p, more string) ask {
	word := expanded(p)
	if more != "" {
		word += expanded(more)
	}
	plain := p + more
	if !strings.HasPrefix(plain, "/") || strings.ContainsAny(plain, "$\n\r\x00") {
		plain = ""
	}
	return ask{name, word, plain}
}

// reads are the facts that the plan is made from.
func (w wish) reads() []rollout.Read {
	out := []rollout.Read{{Section: node.Section.Name(), Key: node.MachineKey}}
	for _, a := range w.asks() {
		if a.plain != "" {
			out = append(out, rollout.Read{Section: node.Section.Name(), Key: node.FileKey(a.plain)})
		}
	}
	return out
}

// sceneOf is what the facts say; ok is false where they do not say all.
func (w wish) sceneOf(f node.Facts) (s scene, ok bool) {
	s = scene{places: map[string]node.Place{}, umask: usualUmask, planned: true}
	for _, a := range w.asks() {
		file, seen := f.Files[a.plain]
		if a.plain == "" || !seen || file.Unsure {
			return s, false
		}
		s.places[a.name] = node.Place{Path: a.plain, File: file}
	}
	return s, true
}

// usualUmask is what a plan takes for the umask of the node.
const usualUmask = 0o022

// touched are the facts after a change at a path: what it may reach is unsure.
func touched(f node.Facts, at node.Place) node.Facts {
	real := at.Real
	if real == "" {
		real = path.Clean(at.Path)
	}
	files := map[string]node.File{}
	for p, x := range f.Files {
		their := x.Real
		if their == "" {
			their = path.Clean(p)
		}
		switch {
		case p == at.Path, their == real, strings.HasPrefix(their, real+"/"),
			x.Self == nil && strings.HasPrefix(real, their+"/"),
			x.Self != nil && at.Self != nil && x.Leads() != nil && at.Leads() != nil && x.Leads().ID == at.Leads().ID:
			x.Unsure = true
		}
		files[p] = x
	}
	f.Files = files
	return f
}

// unsure are the facts after a step of which nobody knows what it changes.
func unsure(before rollout.State) (rollout.State, error) {
	if !before.Has(node.Section.Name()) {
		return before, nil
	}
	f, err := node.Section.Get(before)
	if err != nil || len(f.Files) == 0 {
		return before, err
	}
	files := map[string]node.File{}
	for p, x := range f.Files {
		x.Unsure = true
		files[p] = x
	}
	f.Files = files
	return node.Section.With(before, f), nil
}

// lines of the act script for what is to be done.
func (d *decision) script() string {
	var b strings.Builder
	if len(d.Validate) > 0 {
		words := make([]string, len(d.Validate))
		for i, w := range d.Validate {
			parts := strings.Split(w, "%s")
			for j, p := range parts {
				p = strings.ReplaceAll(p, "%%", "%")
				if j > 0 {
					words[i] += `"$tmp"`
				}
				if p != "" {
					words[i] += expanded(p)
				}
			}
			if w == "" {
				words[i] = "''"
			}
		}
		b.WriteString("valid() { " + strings.Join(words, " ") + "; }\n")
	}
	for _, o := range d.ops {
		b.WriteString(words.Quote(o...) + "\n")
	}
	return b.String()
}

// info adds what Ansible's results say of a path that is there.
func info(result map[string]any, p node.Place) {
	// Of a link to nothing Ansible's say nothing.
	if p.Leads() == nil {
		return
	}
	in := p.Self
	result["uid"], result["gid"], result["owner"], result["group"] = in.UID, in.GID, in.Owner, in.Group
	result["mode"], result["size"], result["state"] = shownMode(p.Self.Perm()), p.Self.Size, p.State()
	if p.Context != "" {
		result["secontext"] = p.Context
	}
}

func mustJSON(v any) string { return string(encode(v)) }

func decodeNote[T any](raw string) (T, error) {
	var v T
	err := json.Unmarshal([]byte(raw), &v)
	return v, err
}
