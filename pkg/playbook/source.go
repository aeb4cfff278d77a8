package playbook

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// maxShownText bounds the line that is quoted in an error.
const maxShownText = 160

// source is a file, kept to quote it in errors.
type source struct {
	path  string // within the file system
	name  string // for people
	lines []string
}

func newSource(path, name string, data []byte) *source {
	return &source{path, name, strings.Split(string(data), "\n")}
}

// at builds an error at a line and column, both from 1, the column in
// characters; 0 is unknown.
func (s *source) at(line, column int, format string, a ...any) *Error {
	e := &Error{Position: rollout.Position{File: s.name, Line: line, Column: column}, Caret: -1, Message: fmt.Sprintf(format, a...)}
	if line < 1 || line > len(s.lines) {
		return e
	}
	e.Text, e.Caret = excerpt(s.lines[line-1], column)
	return e
}

func (s *source) errorAt(n *yaml.Node, format string, a ...any) *Error {
	return s.at(n.Line, n.Column, format, a...)
}

func (s *source) position(n *yaml.Node) rollout.Position {
	return rollout.Position{File: s.name, Line: n.Line, Column: n.Column}
}

func (e *Error) hint(format string, a ...any) *Error {
	e.Hint = fmt.Sprintf(format, a...)
	return e
}

// excerpt cuts a line around the column and makes control characters harmless
// for a terminal.
func excerpt(line string, column int) (string, int) {
	r := []rune(strings.TrimSuffix(line, "\r"))
	caret := column - 1
	if column < 1 || column > len(r)+1 {
		caret = -1
	}
	prefix := 0
	if caret > maxShownText*3/4 {
		cut := caret - maxShownText/2
		r, caret, prefix = r[cut:], caret-cut+1, 1
	}
	suffix := ""
	if len(r) > maxShownText {
		r, suffix = r[:maxShownText], "…"
	}
	for i, c := range r {
		if c != '\t' && (c < ' ' || c >= 0x7f && c < 0xa0 || c == utf8.RuneError) {
			r[i] = '�'
		}
	}
	return strings.Repeat("…", prefix) + string(r) + suffix, caret
}

// inText is an error at a byte offset of a scalar's value, such as a place in a
// template. YAML may fold and escape the value: the place is found again by
// looking for the token, which is as good as it gets.
func (s *source) inText(n *yaml.Node, offset int, token, format string, a ...any) *Error {
	line, column := s.locate(n, offset, token)
	return s.at(line, column, format, a...)
}

func (s *source) locate(n *yaml.Node, offset int, token string) (line, column int) {
	if n.Line < 1 || n.Line > len(s.lines) || offset > len(n.Value) || n.Kind != yaml.ScalarNode {
		return n.Line, n.Column
	}
	block := n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0
	first := s.lines[n.Line-1]
	start := byteColumn(first, n.Column)
	if !block && !strings.Contains(n.Value, "\n") {
		// The value as it stands on the line, after a quote if there is one.
		for _, skip := range []int{0, 1} {
			if start+skip <= len(first) && strings.HasPrefix(first[start+skip:], n.Value) {
				return n.Line, n.Column + skip + utf8.RuneCountInString(n.Value[:offset])
			}
		}
	}
	if token == "" || !strings.HasPrefix(n.Value[offset:], token) {
		return n.Line, n.Column
	}
	nth := strings.Count(n.Value[:offset], token)
	for i := n.Line - 1; i < len(s.lines); i++ {
		text := s.lines[i]
		from := 0
		if i == n.Line-1 {
			from = start
			if block {
				continue
			}
		}
		for {
			j := strings.Index(text[from:], token)
			if j < 0 {
				break
			}
			if nth == 0 {
				return i + 1, utf8.RuneCountInString(text[:from+j]) + 1
			}
			nth--
			from += j + len(token)
		}
	}
	return n.Line, n.Column
}

// byteColumn turns a column in characters, from 1, into an index.
func byteColumn(line string, column int) int {
	i := 0
	for range line {
		if column--; column < 1 {
			return i
		}
		_, size := utf8.DecodeRuneInString(line[i:])
		i += size
	}
	return len(line)
}

// template is an error in a template that stands in a scalar.
func (s *source) template(n *yaml.Node, err error) *Error {
	var je *jinja.Error
	if !errors.As(err, &je) {
		return s.errorAt(n, "%v", err)
	}
	e := s.inText(n, min(je.Offset, len(n.Value)), je.Token, "%s", je.Message)
	e.Hint = je.Hint
	if e.Hint == "" && je.Err != nil {
		if inner := jinja.Position(je.Err); inner != nil {
			e.Hint = inner.Hint
		}
	}
	return e
}

var yamlLine = regexp.MustCompile(`^yaml: (?:unmarshal errors:\n  )?(?:line (\d+): )?`)

// syntax turns an error of the YAML parser into one with a place.
func (s *source) syntax(err error) *Error {
	text := err.Error()
	m := yamlLine.FindStringSubmatch(text)
	message, line := text, 0
	if m != nil {
		message = text[len(m[0]):]
		line, _ = strconv.Atoi(m[1])
	}
	line = min(line, len(s.lines))
	column := 0
	if line > 0 {
		l := s.lines[line-1]
		column = len(l) - len(strings.TrimLeft(l, " \t")) + 1
	}
	e := s.at(line, column, "broken YAML: %s", message)
	switch {
	case strings.Contains(message, "cannot start any token") && strings.Contains(e.Text, "\t"):
		e.Hint = "YAML is indented with spaces, not with tabs"
	case strings.Contains(message, "mapping values are not allowed"):
		e.Hint = "look for a second colon on the line, or for wrong indentation; a value with \": \" in it needs quotes"
	case strings.Contains(message, "did not find expected key"), strings.Contains(message, "did not find expected '-' indicator"):
		e.Hint = "look at the indentation of this line and of the lines before it; a value that begins with {{ or a quote must be quoted as a whole"
	}
	return e
}

// read reads and parses a file. The node is nil for an empty one.
func (l *loader) read(name string) (*source, *yaml.Node, *Error) {
	shown := l.opts.shown(name)
	if !fs.ValidPath(name) {
		return nil, nil, &Error{Position: rollout.Position{File: shown}, Caret: -1, Message: "this path leads out of the folder that fleetd reads"}
	}
	data, err := l.contents(name)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, nil, &Error{Position: rollout.Position{File: shown}, Caret: -1, Message: fmt.Sprintf("cannot read %s: %v", shown, err)}
	}
	src := newSource(name, shown, data)
	switch {
	case len(data) > maxFileSize:
		return nil, nil, src.at(0, 0, "this file has more than %d MB: not a playbook", maxFileSize>>20)
	case strings.HasPrefix(src.lines[0], "$ANSIBLE_VAULT;"):
		return nil, nil, src.at(1, 1, "this file is encrypted with ansible-vault").hint("fleetd reads vaults in the inventory's group_vars and host_vars only")
	}
	var doc yaml.Node
	d := yaml.NewDecoder(strings.NewReader(string(data)))
	switch err := decode(d, &doc); {
	case errors.Is(err, io.EOF):
		return src, nil, nil
	case err != nil:
		return nil, nil, src.syntax(err)
	}
	var second yaml.Node
	if decode(d, &second) == nil {
		return nil, nil, src.at(second.Line, second.Column, "a second YAML document begins here").hint("a playbook is one document: remove the --- in the middle")
	}
	if e := src.checkTree(doc.Content[0]); e != nil {
		return nil, nil, e
	}
	return src, doc.Content[0], nil
}

// contents reads a file, once: two imports of one file are made of the same
// bytes, and so is its digest.
func (l *loader) contents(name string) ([]byte, error) {
	if data, ok := l.bytes[name]; ok {
		return data, nil
	}
	data, err := fs.ReadFile(l.fsys, name)
	if err == nil {
		l.bytes[name] = data
	}
	return data, err
}

// digests are the SHA-256 of all files that were read. A pipe is no file: nobody
// can look at it again.
func (l *loader) digests() map[string]string {
	out := map[string]string{}
	for name, data := range l.bytes {
		if info, err := fs.Stat(l.fsys, name); err == nil && !info.Mode().IsRegular() {
			continue
		}
		sum := sha256.Sum256(data)
		out[l.opts.shown(name)] = hex.EncodeToString(sum[:])
	}
	return out
}

// decode reads the next document; io.EOF says that there is none. It guards
// against the YAML library, which panics on some broken input.
func decode(d *yaml.Decoder, into *yaml.Node) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("yaml: %v", p)
		}
	}()
	return d.Decode(into)
}

const (
	maxFileSize = 16 << 20
	maxDepth    = 100
	// maxNodes is what aliases may expand a file to: a "billion laughs" file
	// ends here.
	maxNodes = 1_000_000
)

// checkTree refuses what would cost unbounded memory or never end, and templates
// without quotes, which are mappings to YAML and would make many odd errors.
func (s *source) checkTree(root *yaml.Node) *Error {
	budget := maxNodes
	var walk func(n *yaml.Node, depth int) *Error
	walk = func(n *yaml.Node, depth int) *Error {
		if n.Kind == yaml.MappingNode && n.Style&yaml.FlowStyle != 0 && len(n.Content) == 2 && n.Content[0].Kind == yaml.MappingNode {
			return s.errorAt(n, "a value that begins with {{ needs quotes around it").hint("write \"{{ … }}\": YAML takes a bare { for a mapping")
		}
		if budget--; budget < 0 {
			return s.errorAt(n, "the aliases of this file make it too large")
		}
		if depth > maxDepth {
			return s.errorAt(n, "this file is nested more than %d deep", maxDepth)
		}
		if n.Kind == yaml.AliasNode {
			return walk(n.Alias, depth+1)
		}
		for _, c := range n.Content {
			if e := walk(c, depth+1); e != nil {
				return e
			}
		}
		return nil
	}
	return walk(root, 0)
}

// shown is the name of a file for people.
func (o Options) shown(name string) string {
	if o.WorkDir != "" {
		if rest, ok := strings.CutPrefix(name, strings.TrimSuffix(o.WorkDir, "/")+"/"); ok {
			return rest
		}
	}
	return path.Join(o.Dir, name)
}
