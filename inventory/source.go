package inventory

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// defaultReaders are Ansible's inventory plugins in the order they are tried.
var defaultReaders = []string{"host_list", "script", "auto", "yaml", "ini", "toml"}

// failure is a reader that wanted a file and could not read it.
type failure struct {
	reader string
	err    error
}

// readFile tries the readers in their order; the first that can read the file
// does. Whether a reader wants a file depends on the file's extension and
// mode alone, as in Ansible.
func (l *loader) readFile(p string, info fs.FileInfo) error {
	l.d.source, l.d.sourceDir = l.absolute(p), path.Dir(l.absolute(p))
	l.reading = l.name(p)
	t, err := l.read(p)
	if err != nil {
		return l.unparsed(p, []failure{{"", err}})
	}
	readers := l.opts.Settings.Plugins
	if readers == nil {
		readers = defaultReaders
	}
	var failures []failure
	try := func(reader string, f func() error) bool {
		err := f()
		if err != nil {
			failures = append(failures, failure{reader, err})
		}
		return err == nil
	}
	var root *node
	var rootErr error
	parsed := false
	for _, reader := range readers {
		ext := extension(p)
		switch strings.TrimPrefix(reader, "ansible.builtin.") {
		case "script":
			if !l.executable(p, t, info) {
				continue
			}
			if l.d.trace != nil && l.d.trace.ran[p] {
				return nil
			}
			err := l.readScript(p)
			if err == nil {
				l.ran[p] = true
				return nil
			}
			failures = append(failures, failure{reader, err})
			if l.opts.RunScript != nil && !errors.Is(err, ErrNotScript) {
				// It ran and failed. Reading the script's own text as an
				// inventory, as Ansible goes on to do, helps nobody.
				return l.unparsed(p, failures)
			}
		case "yaml":
			if ext != "" && !slices.Contains(l.varsExtensions(), ext) {
				continue
			}
			if !parsed {
				if parsed = true; ext == "" && plainlyINI(t.data) {
					rootErr = &Error{File: t.name, Caret: -1, Message: "this is not YAML"}
				} else {
					root, rootErr = parseDocument(t, l.limits)
				}
			}
			if try(reader, func() error {
				if rootErr != nil {
					return rootErr
				}
				if isGroupsJSON(root) {
					return l.readGroupsJSON(t, root, func(string) (*dict, error) { return nil, nil })
				}
				return l.readYAML(t, root)
			}) {
				return nil
			}
		case "ini":
			if try(reader, func() error { return l.readINI(t) }) {
				return nil
			}
		case "toml":
			if ext == ".toml" {
				failures = append(failures, failure{reader, &Error{File: t.name, Caret: -1, Message: "TOML inventories are not supported",
					Hint: "Save it in another form: ansible-inventory -i " + t.name + " --list > inventory.json"}})
			}
		}
	}
	return l.unparsed(p, failures)
}

func (l *loader) executable(p string, t *text, info fs.FileInfo) bool {
	if l.opts.Executable != nil {
		return l.opts.Executable(p)
	}
	return info.Mode()&0o111 != 0 || strings.HasPrefix(t.data, "#!")
}

// unparsed reports the failure that most likely means what its author meant.
func (l *loader) unparsed(p string, failures []failure) error {
	if len(failures) == 0 {
		return &Error{File: l.name(p), Caret: -1, Message: "no inventory reader that is enabled takes this file",
			Hint: "The setting enable_plugins names the readers."}
	}
	best := l.likely(p, failures)
	if l.opts.Settings.AllowUnparsed {
		e := asError(l.name(p), best)
		l.warn(Warning{File: e.File, Line: e.Line, Column: e.Column, Message: "the source is skipped: " + e.Message})
		return nil
	}
	return best
}

func (l *loader) likely(p string, failures []failure) error {
	by := map[string]error{}
	for _, f := range failures {
		by[f.reader] = f.err
	}
	prefer := []string{"", "script", "toml", "yaml", "ini"}
	if ext := extension(p); ext == "" && by["yaml"] != nil && by["ini"] != nil && by["script"] == nil {
		// Without an extension the text tells: a section header or a word
		// with = makes it INI.
		if data, err := fs.ReadFile(l.fsys, p); err == nil && looksINI(string(data)) {
			prefer = []string{"ini"}
		}
	}
	for _, r := range prefer {
		if err := by[r]; err != nil {
			return err
		}
	}
	return failures[len(failures)-1].err
}

// plainlyINI spares a large INI file without extension from being scanned as
// YAML, where it would be one endless text: [name] on a line of its own is a
// YAML list, and no word can follow it.
func plainlyINI(data string) bool {
	seen := 0
	for line := range strings.Lines(data) {
		line = strings.TrimRight(line, " \r\n")
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if seen++; seen == 2 {
			return anchorChar(line[0]) && line[0] != '-'
		}
		if line[0] != '[' || line[len(line)-1] != ']' || len(line) > 200 || span(line, 1, anchorChar) != len(line)-1 {
			return false
		}
	}
	return false
}

// looksINI judges by the first line that says something.
func looksINI(data string) bool {
	rest := data
	for rest != "" {
		var line string
		line, rest = cutLine(rest)
		line = strings.TrimFunc(line, isSpace)
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
