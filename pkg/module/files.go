package module

import (
	"bytes"
	"crypto/md5"  //nolint:gosec // Ansible's results have it
	"crypto/sha1" //nolint:gosec // and this one
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// attributeParams are the parameters that all modules for files have.
func attributeParams() rollout.Params {
	return rollout.Params{
		"mode":  {Type: rollout.Any, Help: "the mode: digits in quotes (\"0644\"), or what chmod takes (u=rw,go=r)"},
		"owner": {Type: rollout.String, Help: "the user whom it belongs to, a name or a number"},
		"group": {Type: rollout.String, Help: "the group, a name or a number"},
	}
}

func with(p, more rollout.Params) rollout.Params {
	for name, x := range more {
		p[name] = x
	}
	return p
}

// fileModule is ansible.builtin.file.
type fileModule struct{ converger }

func (fileModule) About() rollout.About {
	keep := []string{"preserve", "now"}
	return rollout.About{Open: rollout.Update, Params: with(attributeParams(), rollout.Params{
		"path":              {Type: rollout.String, Help: "the path"},
		"dest":              {Type: rollout.String, Help: "another name of path"},
		"name":              {Type: rollout.String, Help: "another name of path"},
		"state":             {Type: rollout.String, Choices: []string{"absent", "directory", "file", "hard", "link", "touch"}, Help: "what it is to be"},
		"src":               {Type: rollout.String, Help: "what a link leads to"},
		"recurse":           {Type: rollout.Bool, Help: "owner, group and mode also for all that is in the directory"},
		"force":             {Type: rollout.Bool, Help: "a link in the place of a file, or to nothing"},
		"follow":            {Type: rollout.Bool, Help: "change what a link leads to (true)"},
		"modification_time": {Type: rollout.String, Choices: keep, Help: "preserve, or now"},
		"access_time":       {Type: rollout.String, Choices: keep, Help: "preserve, or now"},
	})}
}

func (fileModule) wish(args rollout.Args) (wish, error) {
	w, err := attributesOf(args)
	if err != nil {
		return w, err
	}
	w.Path = or(text(args, "path"), or(text(args, "dest"), text(args, "name")))
	if w.Path == "" {
		return w, missing("file", "path")
	}
	w.State, w.Src = text(args, "state"), text(args, "src")
	if w.Src != "" && w.State != node.Symlink && w.State != node.Absent {
		w.Name = path.Base(w.Src)
	}
	w.Recurse, w.Force, w.Follow = set(args, "recurse"), set(args, "force"), flag(args, "follow")
	w.MTime, w.ATime = text(args, "modification_time"), text(args, "access_time")
	return w, nil
}

// set is a parameter that is false where it is not given.
func set(args rollout.Args, name string) bool {
	b, _ := args[name].(bool)
	return b
}

func missing(module, name string) error {
	return &rollout.Problem{Message: fmt.Sprintf("%s needs the parameter %q", module, name), Hint: "see ansible-doc " + module}
}

func attributesOf(args rollout.Args) (wish, error) {
	w := wish{Owner: text(args, "owner"), Group: text(args, "group")}
	var err error
	w.Mode, err = modeText(args["mode"])
	if err == nil {
		w.DirMode, err = modeText(args["directory_mode"])
	}
	return w, err
}

// modeText is a mode as it is written. A number has lost its zero in YAML, and means
// its bits, as in Ansible.
func modeText(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case int64:
		return strconv.FormatInt(v, 8), nil
	}
	return "", &rollout.Problem{Message: fmt.Sprintf("the mode %v is no mode", v), Hint: "write it in quotes, such as \"0644\" or u=rw,go=r"}
}

// copyModule is ansible.builtin.copy.
type copyModule struct{ converger }

func contentParams() rollout.Params {
	return with(attributeParams(), rollout.Params{
		"dest":     {Type: rollout.String, Required: true, Help: "where it is put: a path, or a folder"},
		"backup":   {Type: rollout.Bool, Help: "keep a copy of the file that was there beside it"},
		"force":    {Type: rollout.Bool, Help: "replace a file that is there (true)"},
		"follow":   {Type: rollout.Bool, Help: "write where a link leads, instead of replacing it"},
		"validate": {Type: rollout.String, Help: "a command that has to accept the file, with %s for its name"},
	})
}

func (copyModule) About() rollout.About {
	return rollout.About{Open: rollout.Update, Params: with(contentParams(), rollout.Params{
		"src":            {Type: rollout.File, Folder: "files", Remote: "remote_src", Tree: true, Help: "the file or folder, in files/ beside the playbook or by its path; of a folder with / at its end what is in it"},
		"content":        {Type: rollout.Any, Help: "what the file is to hold, instead of src"},
		"remote_src":     {Type: rollout.Bool, Help: "src is a file on the node"},
		"directory_mode": {Type: rollout.Any, Help: "the mode of folders that are made"},
		"checksum":       {Type: rollout.String, Help: "the SHA-1 that the content must have"},
	})}
}

func (copyModule) wish(args rollout.Args) (wish, []byte, error) {
	content, given := args["content"]
	src, isLocal := args["src"].(rollout.LocalFile)
	remote := text(args, "src")
	w, err := contentWish(args)
	switch {
	case err != nil:
	case given && (isLocal || remote != ""):
		err = &rollout.Problem{Message: "src and content are mutually exclusive"}
	case !given && !isLocal && remote == "":
		err = &rollout.Problem{Message: "src (or content) is required"}
	case given && strings.HasSuffix(w.Path, "/"):
		err = &rollout.Problem{Message: "can not use content with a dir as dest"}
	case w.Mode == "preserve" && given:
		err = &rollout.Problem{Message: "mode: preserve is for files that are copied, and this is content"}
	}
	if err != nil {
		return w, nil, err
	}
	sum := text(args, "checksum")
	if remote != "" {
		w.Src, w.Name = remote, path.Base(remote)
		if sum != "" {
			return w, nil, &rollout.Problem{Message: "checksum is for files of this machine, and src is one of the node"}
		}
		return w, nil, nil
	}
	data := src.Content
	if given {
		if data, err = contentOf(content); err != nil {
			return w, nil, err
		}
	}
	w = w.holding(data, src)
	if sum != "" && sum != w.Content.SHA1 {
		err = &rollout.Problem{Message: "Copied file does not match the expected checksum. Transfer failed.", Hint: "its SHA-1 is " + w.Content.SHA1}
	}
	return w, data, err
}

// contentOf is a content that the task holds itself: a list or a mapping is JSON.
func contentOf(v any) ([]byte, error) {
	var out []byte
	switch v := v.(type) {
	case string:
		out = []byte(v)
	case nil:
	case bool:
		out = []byte(map[bool]string{true: "True", false: "False"}[v])
	case int64, float64:
		out = []byte(fmt.Sprint(v))
	default:
		var raw bytes.Buffer
		enc := json.NewEncoder(&raw)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(v); err != nil {
			return nil, fmt.Errorf("cannot write the content: %w", err)
		}
		out = spaced(bytes.TrimSpace(raw.Bytes()))
	}
	if len(out) > rollout.MostContent {
		return nil, &rollout.Problem{Message: fmt.Sprintf("the content has %d bytes, and %d MiB are the most that a plan holds of a file", len(out), rollout.MostContent>>20)}
	}
	return append([]byte{}, out...), nil
}

// plainEscapes are the characters that Go escapes in JSON and Python does not.
var plainEscapes = map[string]byte{"003c": '<', "003e": '>', "0026": '&'}

// spaced is JSON as Python writes it: a blank behind each comma and colon, and only
// ASCII.
func spaced(raw []byte) []byte {
	var out []byte
	inText := false
	for i := 0; i < len(raw); i++ {
		b := raw[i]
		switch {
		case b >= utf8.RuneSelf:
			r, n := utf8.DecodeRune(raw[i:])
			if r1, r2 := utf16.EncodeRune(r); r1 != unicode.ReplacementChar {
				out = fmt.Appendf(out, `\u%04x\u%04x`, r1, r2)
			} else {
				out = fmt.Appendf(out, `\u%04x`, r)
			}
			i += n - 1
			continue
		case inText && b == '\\' && i+5 < len(raw) && raw[i+1] == 'u' && plainEscapes[string(raw[i+2:i+6])] != 0:
			out = append(out, plainEscapes[string(raw[i+2:i+6])])
			i += 5
			continue
		case inText && b == '\\':
			out = append(out, b)
			i++
			b = raw[i]
		case b == '"':
			inText = !inText
		}
		out = append(out, b)
		if !inText && (b == ',' || b == ':') {
			out = append(out, ' ')
		}
	}
	return out
}

func contentWish(args rollout.Args) (wish, error) {
	w, err := attributesOf(args)
	if err != nil {
		return w, err
	}
	w.State, w.Path = contentState, text(args, "dest")
	w.Backup, w.Force, w.Follow = set(args, "backup"), flag(args, "force"), set(args, "follow")
	v := text(args, "validate")
	if v == "" {
		return w, nil
	}
	if !strings.Contains(v, "%s") {
		return w, &rollout.Problem{Message: fmt.Sprintf("validate must contain %%s: %s", v)}
	}
	if w.Validate, err = split(v); err != nil {
		err = &rollout.Problem{Message: fmt.Sprintf("validate: %v", err)}
	}
	return w, err
}

// holding is the wish with a content, which may be a file of the bastion.
func (w wish) holding(data []byte, src rollout.LocalFile) wish {
	m, s := md5.Sum(data), sha1.Sum(data) //nolint:gosec // they tell files apart, for results
	w.Content = &digests{SHA256: rollout.DigestOf(data), SHA1: hex.EncodeToString(s[:]), MD5: hex.EncodeToString(m[:]), Size: int64(len(data)), Origin: src.Path}
	if src.Name != "" {
		w.Name = path.Base(src.Path)
	}
	if w.Mode == "preserve" {
		w.Mode = src.Mode
	}
	return w
}

// templateModule is ansible.builtin.template.
type templateModule struct{ converger }

func (templateModule) About() rollout.About {
	return rollout.About{Open: rollout.Update, Params: with(contentParams(), rollout.Params{
		"src":                   {Type: rollout.Template, Required: true, Folder: "templates", Help: "the template, in templates/ beside the playbook or by its path"},
		rollout.TrimBlocks:      {Type: rollout.Bool, Help: "the newline behind a block goes (true)"},
		rollout.LstripBlocks:    {Type: rollout.Bool, Help: "blanks before a block go"},
		rollout.NewlineSequence: {Type: rollout.String, Help: "what ends a line: \\n, \\r or \\r\\n"},
		"output_encoding":       {Type: rollout.String, Choices: []string{"utf-8"}, Help: "utf-8"},
	})}
}

func (templateModule) wish(args rollout.Args) (wish, []byte, error) {
	src, _ := args["src"].(rollout.LocalFile)
	w, err := contentWish(args)
	if err != nil {
		return w, nil, err
	}
	return w.holding(src.Content, src), src.Content, nil
}

// Reads and Diff of each.
func (m fileModule) Reads(args rollout.Args) []rollout.Read {
	w, err := m.wish(args)
	return readsOf(w, nil, err)
}

func (m copyModule) Reads(args rollout.Args) []rollout.Read {
	if src, ok := folderOf(args); ok {
		return src.reads(args)
	}
	return readsOf(m.wish(args))
}

func (m templateModule) Reads(args rollout.Args) []rollout.Read { return readsOf(m.wish(args)) }

// readsOf are the facts for a wish; only those of the machine where the run makes it.
func readsOf(w wish, content []byte, err error) []rollout.Read {
	if err != nil || w.Path == "" {
		return []rollout.Read{{Section: node.Section.Name(), Key: node.MachineKey}}
	}
	out := w.reads()
	for _, a := range w.asks() {
		if content != nil && a.plain != "" && utf8.Valid(content) && (a.name == "path" || a.name == "inner") {
			out = append(out, rollout.Read{Section: node.Section.Name(), Key: node.TextKey(a.plain)})
		}
	}
	return out
}

func (m fileModule) Diff(host string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	w, err := m.wish(args)
	return diffOf("file", host, before, w, nil, err)
}

func (m copyModule) Diff(host string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	if src, ok := folderOf(args); ok {
		return src.diff(host, before, args)
	}
	w, content, err := m.wish(args)
	return diffOf("copy", host, before, w, content, err)
}

func (m templateModule) Diff(host string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	w, content, err := m.wish(args)
	return diffOf("template", host, before, w, content, err)
}
