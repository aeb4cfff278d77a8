package source

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/fleetd/fleetd/inventory/pattern"
	"github.com/fleetd/fleetd/inventory/pyliteral"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
	"github.com/fleetd/fleetd/pkg/words"
)

// iniReader reads one INI inventory.
type iniReader struct {
	*reader
	src  *text.Source
	no   int    // line number, as Python counts lines
	line string // without surrounding space
	at   int    // column at which line starts in the file, from 0

	words    []words.Word // of the host line at hand
	expanded []string

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

// ini adds an INI inventory: host lines below [group], group names below
// [group:children], assignments below [group:vars].
func (r *reader) ini(src *text.Source) error {
	i := &iniReader{reader: r, src: src, pending: map[string]*pendingGroup{}}
	return i.read()
}

// place is where byte col of the line stands in the file.
func (r *iniReader) place(col int) text.Place {
	return r.src.At(r.no, r.at+1+utf8.RuneCountInString(r.line[:min(col, len(r.line))]))
}

func (r *iniReader) fail(col int, hint, format string, args ...any) error {
	at := r.place(max(col, 0))
	// Python's lines end at more characters than those of a text.Source.
	line := &text.Source{Data: strings.Repeat(" ", r.at) + r.line, Secret: r.src.Secret}
	e := line.Errorf(1, at.Column, hint, format, args...)
	e.Place = at
	return e
}

// tell gives an error of the inventory its place.
func (r *iniReader) tell(col int, err error) error {
	if err == nil {
		return nil
	}
	return r.fail(col, text.HintOf(err), "%s", err)
}

func (r *iniReader) read() error {
	group, state := "ungrouped", "hosts"
	rest := r.src.Data
	for len(rest) > 0 {
		var line string
		line, rest = cutLine(rest)
		r.no++
		if len(line) > r.limits.LineSize {
			r.line, r.at = line, 0
			return r.fail(0, "Split the line; is this a text file at all?", "the line is longer than %d bytes", r.limits.LineSize)
		}
		r.line = strings.TrimLeftFunc(line, text.IsSpace)
		r.at = utf8.RuneCountInString(line[:len(line)-len(r.line)])
		r.line = strings.TrimRightFunc(r.line, text.IsSpace)
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
		var err error
		name, kind, isSection := section(r.line)
		switch {
		case isSection:
			group = r.inv.GroupName(name)
			if state = kind; state == "" {
				state = "hosts"
			}
			err = r.section(group, state)
		case r.line[0] == '[' && strings.HasSuffix(r.line, "]"):
			err = r.fail(0, "Write [group], [group:children] or [group:vars], without spaces.", "this is not a section header")
		case state == "hosts":
			err = r.hosts(group)
		case state == "vars":
			err = r.variable(group)
		default:
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
		hint := fmt.Sprintf("Declare it: a line [%s], with its hosts below.", name)
		if p.state == "vars" {
			return r.fail(0, hint, "variables are given to the group %s, which is not declared", name)
		}
		return r.fail(0, hint, "the group %s has the child %s, which is not declared", p.parents[len(p.parents)-1], name)
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
	if strings.ContainsFunc(name, text.IsSpace) {
		return "", "", false
	}
	if line[end] == ':' {
		n := strings.IndexByte(line, ']')
		if n < 0 {
			return "", "", false
		}
		kind = line[end+1 : n]
		if kind == "" || strings.ContainsFunc(kind, func(c rune) bool { return !text.IsWord(c) }) {
			return "", "", false
		}
		end = n
	}
	return name, kind, blankOrComment(line[end+1:])
}

func blankOrComment(s string) bool {
	s = strings.TrimLeftFunc(s, text.IsSpace)
	return s == "" || s[0] == '#'
}

func (r *iniReader) section(group, state string) error {
	if state != "hosts" && state != "vars" && state != "children" {
		return r.fail(strings.IndexByte(r.line, ':')+1, "A section is [group], [group:children] or [group:vars].",
			"section [%s:%s] has the unknown kind %s", text.Clip(group), text.Clip(state), text.Clip(state))
	}
	if !r.inv.HasGroup(group) {
		// Variables may be given before the group is declared; that it is
		// declared somewhere is checked at the end.
		if state == "vars" && r.pending[group] == nil {
			r.wait(group, &pendingGroup{state: state, line: r.no, text: r.line})
		}
		if _, err := r.inv.AddGroup(group); err != nil {
			return r.tell(0, err)
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
		if err := r.inv.AddChild(parent, group); err != nil {
			return r.tell(0, err)
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
	end := strings.IndexFunc(r.line, func(c rune) bool { return c == ':' || c == ']' || text.IsSpace(c) })
	name := r.line
	if end >= 0 {
		name = r.line[:end]
	}
	if name == "" || !blankOrComment(r.line[len(name):]) {
		return r.fail(max(end, 0), "One group's name on each line; variables go to [group:vars].", "a group's name is expected here")
	}
	if r.inv.HasGroup(name) {
		return r.tell(0, r.inv.AddChild(group, name))
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
	val, err := r.value(strings.TrimFunc(v, text.IsSpace), at)
	if err != nil {
		return err
	}
	return r.tell(at, r.inv.Set(group, strings.TrimFunc(k, text.IsSpace), val, r.place(0)))
}

func (r *iniReader) value(s string, at int) (any, error) {
	v, err := pyliteral.Value(s)
	if err != nil {
		return nil, r.fail(at, "Put the whole value in quotes within quotes: name='\"{{ … }}\"'.", "%q is no value: %s", r.src.Clip(s), err)
	}
	if r.src.Secret {
		v = value.Conceal(v, r.place(at))
	}
	return v, nil
}

func (r *iniReader) hosts(group string) error {
	var err error
	if r.words, err = words.Shell(r.words[:0], r.line, true); err != nil {
		return r.fail(strings.LastIndexAny(r.line, `'"\`), "Close the quote, or put a backslash before it.", "cannot split the line into words: %s", err)
	}
	first := r.words[0]
	names, port, err := pattern.Expand(r.expanded[:0], first.Text, r.limits.Hosts)
	if err != nil {
		return r.tell(first.At, err)
	}
	r.expanded = names
	if strings.HasSuffix(strings.TrimFunc(first.Text, text.IsSpace), ":") && port == 0 {
		return r.fail(first.At+max(0, strings.LastIndexByte(r.line[first.At:], ':')), "A port goes behind the colon. If this is YAML, name the file .yml or .yaml.",
			"a host's name cannot end in a colon: %s", text.Clip(first.Text))
	}
	for _, n := range names {
		if strings.TrimFunc(n, text.IsSpace) == "---" {
			return r.fail(0, "If this is YAML, name the file .yml or .yaml.", "--- is no host's name")
		}
	}
	vars := make([]value.Entry, 0, len(r.words)-1)
	for _, w := range r.words[1:] {
		k, v, ok := strings.Cut(w.Text, "=")
		if !ok {
			return r.fail(w.At, "Write name=value, without spaces around the =; put a value with spaces in quotes.", "a variable name=value is expected, not %q", r.src.Clip(w.Text))
		}
		val, err := r.value(v, w.At)
		if err != nil {
			return err
		}
		vars = append(vars, value.Entry{Key: k, Value: val, At: r.place(w.At)})
	}
	for _, n := range names {
		if err := r.inv.AddHost(n, group, port); err != nil {
			return r.tell(first.At, err)
		}
		for _, e := range vars {
			if err := r.inv.Set(n, e.Key, e.Value, e.At); err != nil {
				return r.tell(first.At, err)
			}
		}
	}
	return nil
}
