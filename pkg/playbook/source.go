package playbook

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/yaml"
)

// source is a file of a playbook.
type source struct {
	*text.Source
	path   string   // within the file system
	lines  []string // to find places within values
	reader *yaml.Reader
}

// at builds an error at a line and column, both from 1, the column in
// characters; 0 is unknown.
func (s *source) at(line, column int, format string, a ...any) *Error {
	return &Error{located: *s.Errorf(line, column, "", format, a...)}
}

func (s *source) errorAt(n *yaml.Node, format string, a ...any) *Error {
	return s.at(n.Line, n.Column, format, a...)
}

func (s *source) position(n *yaml.Node) text.Place { return s.At(n.Line, n.Column) }

func (e *Error) hint(format string, a ...any) *Error {
	e.Hint = fmt.Sprintf(format, a...)
	return e
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
		e := s.errorAt(n, "%v", err)
		e.Err = err
		return e
	}
	e := s.inText(n, min(je.Offset, len(n.Value)), je.Token, "%s", je.Message)
	e.Hint, e.Err = je.Hint, err
	if e.Hint == "" && je.Err != nil {
		if inner := jinja.Position(je.Err); inner != nil {
			e.Hint = inner.Hint
		}
	}
	return e
}

// read reads and parses a file. The node is nil for an empty one.
func (l *loader) read(name string) (*source, *yaml.Node, *Error) {
	shown := l.opts.shown(name)
	failed := func(format string, a ...any) (*source, *yaml.Node, *Error) {
		return nil, nil, &Error{located: *(&text.Source{Name: shown}).Errorf(0, 0, "", format, a...)}
	}
	if !fs.ValidPath(name) {
		return failed("this path leads out of the folder that fleetd reads")
	}
	data, err := l.contents(name)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return failed("cannot read %s: %v", shown, err)
	}
	src := &source{Source: &text.Source{Name: shown, Data: string(data)}, path: name, lines: strings.Split(string(data), "\n")}
	switch {
	case len(data) > maxFileSize:
		return nil, nil, src.at(0, 0, "this file has more than %d MB: not a playbook", maxFileSize>>20)
	case strings.HasPrefix(src.lines[0], "$ANSIBLE_VAULT;"):
		return nil, nil, src.at(1, 1, "this file is encrypted with ansible-vault").hint("fleetd reads vaults in the inventory's group_vars and host_vars only")
	}
	d, err := yaml.Parse(src.Source, yaml.Limits{Depth: maxDepth, Expansion: maxNodes})
	if err != nil {
		return nil, nil, &Error{located: *asError(err)}
	}
	src.reader = d.Reader(yaml.Options{Warn: func(w text.Warning) { l.warn(w.Place, "%s", w.Message) }})
	if d.Root == nil {
		return src, nil, nil
	}
	if e := src.checkTree(d.Root); e != nil {
		return nil, nil, e
	}
	return src, d.Root, nil
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
	open := map[*yaml.Node]bool{}
	var walk func(n *yaml.Node) *Error
	walk = func(n *yaml.Node) *Error {
		if n.Kind == yaml.MappingNode && n.Style&yaml.FlowStyle != 0 && len(n.Content) == 2 && n.Content[0].Kind == yaml.MappingNode {
			return s.errorAt(n, "a value that begins with {{ needs quotes around it").hint("write \"{{ … }}\": YAML takes a bare { for a mapping")
		}
		if budget--; budget < 0 {
			return s.errorAt(n, "the aliases of this file make it too large")
		}
		if n.Kind == yaml.AliasNode {
			if open[n.Alias] {
				return s.errorAt(n, "an alias stands inside the value that it names").hint(yaml.AliasHint)
			}
			return walk(n.Alias)
		}
		open[n] = true
		defer delete(open, n)
		for _, c := range n.Content {
			if e := walk(c); e != nil {
				return e
			}
		}
		return nil
	}
	return walk(root)
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
