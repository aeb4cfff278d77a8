package export

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
)

// writeJSON writes as Python does with indent=4 and sorted keys.
//
// encoding/json would build a second tree of maps, go over it by reflection, and
// over its text again to indent it: with it a large fleet's --list took twice as
// long, most of it there.
func (e *exporter) writeJSON(w io.Writer, v any) error {
	j := &jsonWriter{b: bufio.NewWriterSize(w, 1<<16), e: e}
	j.value(v, 0)
	j.put("\n")
	// Flush tells of any error of the writer before.
	return errors.Join(j.err, j.b.Flush())
}

type jsonWriter struct {
	b   *bufio.Writer
	e   *exporter
	err error // the first host's whose variables cannot be told
}

// allHosts stands for the variables of hosts, which are merged one by one while
// they are written: those of 100,000 hosts at once would be most of the memory.
type allHosts []string

// put writes s. Flush tells what went wrong.
func (j *jsonWriter) put(s string) { _, _ = j.b.WriteString(s) }

// value writes v, which stands at a depth. What is unsafe or a vault has
// Ansible's marks.
func (j *jsonWriter) value(v any, depth int) {
	switch v := v.(type) {
	case *value.Map:
		j.put("{")
		for i, x := range v.Sorted() {
			j.item(i, depth+1)
			j.text(value.Word(x.Key))
			j.put(": ")
			j.value(x.Value, depth+1)
		}
		j.end(v.Len(), depth, "}")
	case allHosts:
		j.hosts(v, depth)
	case []any:
		j.items(v, depth)
	case value.Tuple:
		j.items(v, depth)
	case value.Unsafe:
		j.marked("__ansible_unsafe", string(v), depth)
	case value.Secret:
		if cipher, ok := v.Cipher(); ok {
			j.marked("__ansible_vault", cipher, depth)
		} else {
			j.value(j.e.opened(v), depth)
		}
	case nil:
		j.put("null")
	case string:
		j.text(v)
	case value.Binary, value.Timestamp:
		j.text(value.Word(v))
	case float64: // NaN and Infinity are numbers of Python's, and no other JSON's
		j.put(strings.NewReplacer("inf", "Infinity", "nan", "NaN").Replace(value.Float(v)))
	default: // whole numbers and booleans
		j.put(value.Word(v))
	}
}

func (j *jsonWriter) hosts(names []string, depth int) {
	j.put("{")
	n := 0
	for _, name := range slices.Sorted(slices.Values(names)) {
		vars, err := j.e.hostVars(name)
		if err != nil {
			j.err = cmp.Or(j.err, err)
			continue
		}
		if vars.Len() == 0 {
			continue
		}
		j.item(n, depth+1)
		j.text(name)
		j.put(": ")
		j.value(vars, depth+1)
		n++
	}
	j.end(n, depth, "}")
}

func (j *jsonWriter) items(items []any, depth int) {
	j.put("[")
	for i, x := range items {
		j.item(i, depth+1)
		j.value(x, depth+1)
	}
	j.end(len(items), depth, "]")
}

func (j *jsonWriter) marked(mark, s string, depth int) {
	m := value.NewMap(1)
	m.Set(mark, s)
	j.value(m, depth)
}

func (j *jsonWriter) item(i, depth int) {
	if i > 0 {
		j.put(",")
	}
	j.line(depth)
}

func (j *jsonWriter) end(items, depth int, bracket string) {
	if items > 0 {
		j.line(depth)
	}
	j.put(bracket)
}

func (j *jsonWriter) line(depth int) {
	j.put("\n")
	for range depth {
		j.put("    ")
	}
}

// text writes s in quotes; characters beyond ASCII stay.
func (j *jsonWriter) text(s string) {
	if !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' || r >= 0x7f }) {
		j.put(`"`)
		j.put(s)
		j.put(`"`)
		return
	}
	var quoted bytes.Buffer
	enc := json.NewEncoder(&quoted)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string can always be encoded
	j.put(strings.TrimSuffix(quoted.String(), "\n"))
}

// opened is a value of an encrypted file, if it may be seen. It was decrypted
// with the file.
func (e *exporter) opened(s value.Secret) any {
	if v, err := s.Value(); e.ShowSecrets && err == nil {
		return v
	}
	return text.Redacted
}
