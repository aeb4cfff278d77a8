package inventory

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// iniReader reads one INI inventory.
type iniReader struct {
	l    *loader
	t    *text
	no   int    // line number
	line string // without surrounding space
	at   int    // column at which line starts in the file, from 0

	words      []word // of the host line at hand, as are the next three
	expanded   []string
	keys, vals []any
	names      map[string]any

	pending      map[string]*pendingGroup
	pendingOrder []string
}

// pendingGroup is a group that was named as a child, or given variables,
// before it was declared.
type pendingGroup struct {
	state   string
	line    int
	text    string
	parents []string
}

// readINI adds an INI inventory: host lines below [group], group names below
// [group:children], assignments below [group:vars].
func (l *loader) readINI(t *text) error {
	l.d.expect(strings.Count(t.data, "\n"), len(t.data))
	r := &iniReader{l: l, t: t, pending: map[string]*pendingGroup{}}
	return r.read()
}

func (r *iniReader) fail(col int, hint, format string, args ...any) error {
	e := &Error{File: r.t.name, Line: r.no, Caret: -1, Hint: hint, Message: fmt.Sprintf(format, args...)}
	if col >= 0 {
		e.Column = r.at + 1 + utf8.RuneCountInString(r.line[:min(col, len(r.line))])
	}
	if !r.t.secret {
		e.Text, e.Caret = excerpt(strings.Repeat(" ", r.at)+r.line, e.Column)
	}
	return e
}

func (r *iniReader) read() error {
	group, state := "ungrouped", "hosts"
	rest := r.t.data
	for len(rest) > 0 {
		var line string
		line, rest = cutLine(rest)
		r.no++
		if len(line) > r.l.limits.LineSize {
			r.line, r.at = line, 0
			return r.fail(0, "Split the line; is this a text file at all?", "the line is longer than %d bytes", r.l.limits.LineSize)
		}
		r.line = strings.TrimLeftFunc(line, isSpace)
		r.at = utf8.RuneCountInString(line[:len(line)-len(r.line)])
		r.line = strings.TrimRightFunc(r.line, isSpace)
		if r.line == "" || r.line[0] == '#' || r.line[0] == ';' {
			continue
		}
		if !utf8.ValidString(r.line) {
			i := strings.IndexFunc(r.line, func(c rune) bool { return c == utf8.RuneError })
			return r.fail(i, "Save the file as UTF-8.", "the line is not valid UTF-8")
		}
		if strings.HasPrefix(r.line, "\ufeff") {
			return r.fail(0, "Save the file as UTF-8 without a byte order mark.", "the file starts with a byte order mark")
		}
		if name, kind, ok := section(r.line); ok {
			group = r.l.d.safeGroupName(name)
			if state = kind; state == "" {
				state = "hosts"
			}
			if err := r.section(group, state); err != nil {
				return err
			}
			continue
		}
		if r.line[0] == '[' && strings.HasSuffix(r.line, "]") {
			return r.fail(0, "Write [group], [group:children] or [group:vars], without spaces.", "this is not a section header")
		}
		var err error
		switch state {
		case "hosts":
			err = r.hosts(group)
		case "vars":
			err = r.variable(group)
		case "children":
			err = r.child(group)
		}
		if err != nil {
			return err
		}
	}
	for _, name := range r.pendingOrder {
		p := r.pending[name]
		if p == nil {
			continue
		}
		r.no, r.line, r.at = p.line, p.text, 0
		if p.state == "vars" {
			return r.fail(0, fmt.Sprintf("Declare it: a line [%s], with its hosts below.", name), "variables are given to the group %s, which is not declared", name)
		}
		return r.fail(0, fmt.Sprintf("Declare it: a line [%s], with its hosts below.", name), "the group %s has the child %s, which is not declared", p.parents[len(p.parents)-1], name)
	}
	return nil
}

// cutLine cuts the first line off, at every character that Python's
// splitlines takes for a line's end.
func cutLine(s string) (line, rest string) {
	for i, c := range s {
		switch c {
		case '\n', '\v', '\f', 0x1c, 0x1d, 0x1e, 0x85, 0x2028, 0x2029:
			return s[:i], s[i+utf8.RuneLen(c):]
		case '\r':
			return s[:i], strings.TrimPrefix(s[i+1:], "\n")
		}
	}
	return s, ""
}

// section takes [name] or [name:kind], with a comment behind it, apart.
func section(line string) (name, kind string, ok bool) {
	if line[0] != '[' {
		return "", "", false
	}
	end := strings.IndexAny(line, ":]")
	if end < 2 {
		return "", "", false
	}
	name = line[1:end]
	if strings.IndexFunc(name, isSpace) >= 0 {
		return "", "", false
	}
	if line[end] == ':' {
		n := strings.IndexByte(line, ']')
		if n < 0 {
			return "", "", false
		}
		kind = line[end+1 : n]
		if kind == "" || strings.IndexFunc(kind, func(r rune) bool { return !isWord(r) }) >= 0 {
			return "", "", false
		}
		end = n
	}
	return name, kind, blankOrComment(line[end+1:])
}

func blankOrComment(s string) bool {
	s = strings.TrimLeftFunc(s, isSpace)
	return s == "" || s[0] == '#'
}

func (r *iniReader) section(group, state string) error {
	if state != "hosts" && state != "vars" && state != "children" {
		return r.fail(strings.IndexByte(r.line, ':')+1, "A section is [group], [group:children] or [group:vars].",
			"section [%s:%s] has the unknown kind %s", clip(group), clip(state), clip(state))
	}
	d := r.l.d
	if d.groups[group] == nil {
		// Variables may be given before the group is declared; that it is
		// declared somewhere is checked at the end.
		if state == "vars" && r.pending[group] == nil {
			r.wait(group, &pendingGroup{state: state, line: r.no, text: r.line})
		}
		if _, err := d.addGroup(group); err != nil {
			return r.fail(0, hintOf(err), "%s", err)
		}
	}
	if p := r.pending[group]; p != nil && state != "vars" {
		if p.state == "children" {
			return r.adopt(group)
		}
		delete(r.pending, group)
	}
	return nil
}

func (r *iniReader) wait(name string, p *pendingGroup) {
	r.pending[name] = p
	r.pendingOrder = append(r.pendingOrder, name)
}

// adopt gives a group that is declared at last to the parents that named it.
func (r *iniReader) adopt(group string) error {
	p := r.pending[group]
	for _, parent := range p.parents {
		if err := r.l.d.addChild(parent, group); err != nil {
			return r.fail(0, hintOf(err), "%s", err)
		}
		if pp := r.pending[parent]; pp != nil && pp.state == "children" {
			if err := r.adopt(parent); err != nil {
				return err
			}
		}
	}
	delete(r.pending, group)
	return nil
}

func (r *iniReader) child(group string) error {
	end := strings.IndexFunc(r.line, func(c rune) bool { return c == ':' || c == ']' || isSpace(c) })
	name := r.line
	if end >= 0 {
		name = r.line[:end]
	}
	if name == "" || !blankOrComment(r.line[len(name):]) {
		return r.fail(max(end, 0), "One group's name on each line; variables go to [group:vars].", "a group's name is expected here")
	}
	if r.l.d.groups[name] != nil {
		if err := r.l.d.addChild(group, name); err != nil {
			return r.fail(0, hintOf(err), "%s", err)
		}
		return nil
	}
	if p := r.pending[name]; p != nil {
		p.parents = append(p.parents, group)
	} else {
		r.wait(name, &pendingGroup{state: "children", line: r.no, text: r.line, parents: []string{group}})
	}
	return nil
}

func (r *iniReader) variable(group string) error {
	k, v, ok := strings.Cut(r.line, "=")
	if !ok {
		return r.fail(0, "Write name=value.", "a variable is expected here")
	}
	at := len(k) + 1
	k, v = strings.TrimFunc(k, isSpace), strings.TrimFunc(v, isSpace)
	value, err := r.value(v, at)
	if err != nil {
		return err
	}
	r.here(0)
	if err := r.l.d.setVariable(group, k, value); err != nil {
		return r.fail(at, hintOf(err), "%s", err)
	}
	return nil
}

// here tells a trace where the variable stands that is set next.
func (r *iniReader) here(at int) {
	if t := r.l.d.trace; t != nil {
		t.here = Place{File: r.t.name, Line: r.no, Column: r.at + 1 + utf8.RuneCountInString(r.line[:at])}
	}
}

func (r *iniReader) value(s string, at int) (any, error) {
	v, err := iniValue(s)
	if err != nil {
		return nil, r.fail(at, "Put the whole value in quotes within quotes: name='\"{{ … }}\"'.", "%q is no value: %s", r.t.clip(s), err)
	}
	return r.l.vault.hide(v, r.t), nil
}

func (r *iniReader) hosts(group string) error {
	words, err := splitWords(r.words[:0], r.line)
	if err != nil {
		return r.fail(strings.LastIndexAny(r.line, `'"\`), "Close the quote, or put a backslash before it.", "cannot split the line into words: %s", err)
	}
	r.words = words
	pattern := words[0].text
	names, port, err := expandHostPattern(r.expanded[:0], pattern, r.l.limits.Hosts)
	if err != nil {
		return r.fail(words[0].at, hintOf(err), "%s", err)
	}
	r.expanded = names
	if strings.HasSuffix(strings.TrimFunc(pattern, isSpace), ":") && port == 0 {
		return r.fail(words[0].at+max(0, strings.LastIndexByte(r.line[words[0].at:], ':')), "A port goes behind the colon. If this is YAML, name the file .yml or .yaml.",
			"a host's name cannot end in a colon: %s", clip(pattern))
	}
	for _, n := range names {
		if strings.TrimFunc(n, isSpace) == "---" {
			return r.fail(0, "If this is YAML, name the file .yml or .yaml.", "--- is no host's name")
		}
	}
	r.keys, r.vals = r.keys[:0], r.vals[:0]
	for _, w := range words[1:] {
		k, v, ok := strings.Cut(w.text, "=")
		if !ok {
			return r.fail(w.at, "Write name=value, without spaces around the =; put a value with spaces in quotes.", "a variable name=value is expected, not %q", r.t.clip(w.text))
		}
		value, err := r.value(v, w.at)
		if err != nil {
			return err
		}
		r.keys, r.vals = append(r.keys, r.name(k)), append(r.vals, value)
	}
	for _, n := range names {
		h, err := r.l.d.addHost(n, group, port)
		if err != nil {
			return r.fail(words[0].at, hintOf(err), "%s", err)
		}
		if r.l.d.setHostVariables(h, r.keys, r.vals) {
			continue
		}
		for i, k := range r.keys {
			r.here(words[1+i].at)
			if err := r.l.d.setHostVariable(h, k, r.vals[i]); err != nil {
				return r.fail(words[0].at, hintOf(err), "%s", err)
			}
		}
	}
	return nil
}

// name is a variable's name, made once for all hosts that have it.
func (r *iniReader) name(k string) any {
	if n, ok := r.names[k]; ok {
		return n
	}
	if r.names == nil {
		r.names = map[string]any{}
	}
	r.names[k] = k
	return r.names[k]
}

// asError makes any error an *Error about a file.
func asError(file string, err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{File: file, Caret: -1, Message: err.Error(), Hint: hintOf(err), Err: err}
}
