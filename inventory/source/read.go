package source

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/inventory/pattern"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/yaml"
)

// defaultPlugins are Ansible's inventory plugins in the order they are tried.
var defaultPlugins = []string{"host_list", "script", "auto", "yaml", "ini", "toml"}

// failure is a plugin that wanted a file and could not read it.
type failure struct {
	plugin string
	err    error
}

// file tries the plugins in their order; the first that can read the file does.
// Whether a plugin wants a file depends on the file's extension and mode alone,
// as in Ansible.
func (r *reader) file(p string, info fs.FileInfo) error {
	r.inv.From(r.Name(p), r.Absolute(p), path.Dir(r.Absolute(p)))
	src, err := r.Read(p)
	if err != nil {
		return r.unparsed(p, []failure{{"", err}})
	}
	plugins := r.opts.Settings.Plugins
	if plugins == nil {
		plugins = defaultPlugins
	}
	var failures []failure
	for _, plugin := range plugins {
		ext := Extension(p)
		var err error
		switch strings.TrimPrefix(plugin, "ansible.builtin.") {
		case "script":
			if !r.executable(p, src, info) {
				continue
			}
			if err = r.script(p); err != nil && r.opts.RunScript != nil && !errors.Is(err, ErrNotScript) {
				// It ran and failed. Reading the script's own text as an
				// inventory, as Ansible goes on to do, helps nobody.
				return r.unparsed(p, append(failures, failure{plugin, err}))
			}
		case "yaml":
			if ext != "" && !slices.Contains(r.opts.Settings.Extensions(), ext) {
				continue
			}
			err = r.yaml(src, ext)
		case "ini":
			err = r.ini(src)
		case "toml":
			if ext != ".toml" {
				continue
			}
			err = src.Errorf(0, 0, "Save it in another form: ansible-inventory -i "+src.Name+" --list > inventory.json", "TOML inventories are not supported")
		default:
			continue
		}
		if err == nil {
			return nil
		}
		failures = append(failures, failure{plugin, err})
	}
	return r.unparsed(p, failures)
}

// Extension is Python's os.path.splitext: leading dots start no extension.
func Extension(name string) string {
	return path.Ext(strings.TrimLeft(path.Base(name), "."))
}

func (r *reader) executable(p string, src *text.Source, info fs.FileInfo) bool {
	if r.opts.Executable != nil {
		return r.opts.Executable(p)
	}
	return info.Mode()&0o111 != 0 || strings.HasPrefix(src.Data, "#!")
}

// document is a parsed file that is read into the inventory.
type document struct {
	*reader
	src *text.Source
	doc *yaml.Reader
}

func (r *reader) document(d *yaml.Document) document {
	return document{r, d.Source, r.documentReader(d)}
}

// tell gives an error of the inventory its place.
func (d document) tell(n *yaml.Node, err error) error {
	if err == nil {
		return nil
	}
	return d.src.Locate(n.Line, n.Column, err)
}

// yaml reads a file as YAML or as JSON.
func (r *reader) yaml(src *text.Source, ext string) error {
	if ext == "" && plainlyINI(src.Data) {
		return src.Errorf(0, 0, "", "this is not YAML")
	}
	d, err := yaml.Parse(src, r.yamlLimits())
	if err != nil {
		return err
	}
	if isGroupsJSON(d) {
		return r.groupsJSON(d, nil)
	}
	return r.groupsYAML(d)
}

// unparsed reports the failure that most likely means what its author meant.
func (r *reader) unparsed(p string, failures []failure) error {
	if len(failures) == 0 {
		return &text.Error{Place: text.Place{File: r.Name(p)}, Caret: -1, Message: "no inventory reader that is enabled takes this file",
			Hint: "The setting enable_plugins names the readers."}
	}
	best := r.likely(p, failures)
	if r.opts.Settings.AllowUnparsed {
		e := Located(r.Name(p), best)
		r.opts.Warn(text.Warning{Place: e.Place, Message: "the source is skipped: " + e.Message})
		return nil
	}
	return best
}

func (r *reader) likely(p string, failures []failure) error {
	by := map[string]error{}
	for _, f := range failures {
		by[f.plugin] = f.err
	}
	prefer := []string{"", "script", "toml", "yaml", "ini"}
	if ext := Extension(p); ext == "" && by["yaml"] != nil && by["ini"] != nil && by["script"] == nil {
		// Without an extension the text tells: a section header or a word
		// with = makes it INI.
		if data, err := fs.ReadFile(r.fsys, p); err == nil && looksINI(string(data)) {
			prefer = []string{"ini"}
		}
	}
	for _, plugin := range prefer {
		if err := by[plugin]; err != nil {
			return err
		}
	}
	return failures[len(failures)-1].err
}

// plainlyINI spares a large INI file without extension from being parsed as
// YAML, where it would be one endless text: [name] on a line of its own is a
// YAML list, and no word can follow it.
func plainlyINI(data string) bool {
	header := false
	for line := range strings.Lines(data) {
		line = strings.TrimRight(line, " \r\n")
		switch {
		case line == "" || line[0] == '#':
		case header:
			return letterOrDigit(rune(line[0]))
		case line[0] != '[' || line[len(line)-1] != ']' || len(line) > 200 || strings.Trim(line[1:len(line)-1], nameChars) != "":
			return false
		default:
			header = true
		}
	}
	return false
}

const nameChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

func letterOrDigit(c rune) bool { return c != '-' && strings.ContainsRune(nameChars, c) }

// looksINI judges by the first line that says something.
func looksINI(data string) bool {
	for data != "" {
		var line string
		line, data = cutLine(data)
		line = strings.TrimFunc(line, text.IsSpace)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line == "---" || line[0] == '{' || strings.HasPrefix(line, "%") {
			return false
		}
		if _, _, ok := section(line); ok {
			return true
		}
		return !strings.HasSuffix(line, ":") && !strings.Contains(line, ": ")
	}
	return false
}

// hostList reads a list of hosts given in place of a file: the list itself is
// their inventory_file, there is no directory, and ranges are not expanded.
func (r *reader) hostList(list string) error {
	r.inv.From("", list, nil)
	for h := range strings.SplitSeq(list, ",") {
		h = strings.TrimSpace(h)
		if h == "" {
			continue
		}
		name, port, ok := pattern.SplitAddress(h)
		if !ok || strings.Contains(name, "[") {
			name, port = h, 0
		}
		if r.inv.HasHost(name) {
			continue
		}
		if err := r.inv.AddHost(name, "ungrouped", port); err != nil {
			return &text.Error{Caret: -1, Message: "cannot read the host list \"" + text.Clip(list) + "\": " + err.Error()}
		}
	}
	return nil
}
