package inventory

import (
	"cmp"
	"io"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// jsonWriter writes JSON as Python does with indent=4, sorted keys and
// characters beyond ASCII as they are.
type jsonWriter struct {
	w   io.Writer
	buf []byte
	o   ExportOptions
	// unsorted: keys stay in the order they were set.
	unsorted bool
	scratch  []byte // of the host whose variables are being rendered
}

const flushAt = 1 << 16

func (j *jsonWriter) flush() error {
	_, err := j.w.Write(j.buf)
	j.buf = j.buf[:0]
	return err
}

func (j *jsonWriter) flushFull() error {
	if len(j.buf) < flushAt {
		return nil
	}
	return j.flush()
}

func (j *jsonWriter) open(c byte) { j.buf = append(j.buf, c) }

func (j *jsonWriter) close(c byte, level int, empty bool) {
	if !empty {
		j.newline(level)
	}
	j.buf = append(j.buf, c)
}

const spaces = "                                                                "

func (j *jsonWriter) newline(level int) {
	j.buf = append(j.buf, '\n')
	for n := 4 * level; n > 0; n -= len(spaces) {
		j.buf = append(j.buf, spaces[:min(n, len(spaces))]...)
	}
}

// item starts the next entry of a dictionary.
func (j *jsonWriter) item(first *bool, level int, key string) {
	if !*first {
		j.buf = append(j.buf, ',')
	}
	*first = false
	j.newline(level)
	j.buf = appendJSONString(j.buf, key)
	j.buf = append(j.buf, ':', ' ')
}

func (j *jsonWriter) value(v any, level int) {
	switch v := v.(type) {
	case nil:
		j.buf = append(j.buf, "null"...)
	case bool:
		j.buf = strconv.AppendBool(j.buf, v)
	case int:
		j.buf = strconv.AppendInt(j.buf, int64(v), 10)
	case *big.Int:
		j.buf = v.Append(j.buf, 10)
	case float64:
		switch {
		case math.IsNaN(v):
			j.buf = append(j.buf, "NaN"...)
		case math.IsInf(v, 1):
			j.buf = append(j.buf, "Infinity"...)
		case math.IsInf(v, -1):
			j.buf = append(j.buf, "-Infinity"...)
		default:
			j.buf = append(j.buf, pyFloat(v)...)
		}
	case string:
		j.buf = appendJSONString(j.buf, v)
	case binaryData:
		j.buf = appendJSONString(j.buf, string(v))
	case timestamp:
		j.buf = appendJSONString(j.buf, v.iso)
	case Unsafe:
		j.marked("__ansible_unsafe", string(v), level)
	case Secret:
		switch {
		case v.p.inline:
			j.marked("__ansible_vault", v.p.cipher, level)
		case j.o.ShowSecrets:
			// Nothing can go wrong: the file was decrypted when it was read.
			plain, _ := v.inner()
			j.value(plain, level)
		default:
			j.value(redacted, level)
		}
	case *list:
		j.open('[')
		for i, x := range v.items {
			if i > 0 {
				j.buf = append(j.buf, ',')
			}
			j.newline(level + 1)
			j.value(x, level+1)
		}
		j.close(']', level, len(v.items) == 0)
	case []string:
		j.open('[')
		for i, x := range v {
			if i > 0 {
				j.buf = append(j.buf, ',')
			}
			j.newline(level + 1)
			j.buf = appendJSONString(j.buf, x)
		}
		j.close(']', level, len(v) == 0)
	case *dict:
		j.open('{')
		first := true
		if j.unsorted {
			for i, k := range v.keys {
				j.item(&first, level+1, keyString(k))
				j.value(v.vals[i], level+1)
			}
		} else {
			for _, i := range sortedKeys(v) {
				j.item(&first, level+1, keyString(v.keys[i]))
				j.value(v.vals[i], level+1)
			}
		}
		j.close('}', level, first)
	}
}

// document writes v and a newline.
func (j *jsonWriter) document(v any) error {
	j.unsorted = !allSortable(v, map[any]bool{})
	j.value(v, 0)
	j.buf = append(j.buf, '\n')
	return j.flush()
}

func (j *jsonWriter) marked(key, value string, level int) {
	first := true
	j.open('{')
	j.item(&first, level+1, key)
	j.buf = appendJSONString(j.buf, value)
	j.close('}', level, false)
}

// rendered is a host variable with its value as JSON.
type rendered struct {
	key  string
	json []byte
}

// hostVarLevel is the depth at which the variables of a host stand in --list.
const hostVarLevel = 4

// render renders layers of variables, later ones winning, sorted by name. The
// text goes into buf, which is returned for use with the next host.
func (j *jsonWriter) render(into []rendered, buf []byte, layers ...*dict) ([]rendered, []byte) {
	scratch := jsonWriter{o: j.o, buf: buf}
	for n, d := range layers {
		if d == nil {
			continue
		}
	next:
		for i, k := range d.keys {
			if internalVars[k] {
				continue
			}
			for _, later := range layers[n+1:] {
				if _, ok := later.get(k); ok {
					continue next
				}
			}
			from := len(scratch.buf)
			scratch.value(d.vals[i], hostVarLevel)
			into = append(into, rendered{keyString(k), scratch.buf[from:len(scratch.buf):len(scratch.buf)]})
		}
	}
	slices.SortFunc(into, func(a, b rendered) int { return strings.Compare(a.key, b.key) })
	return into, scratch.buf
}

// merge writes two sorted lists as one; own wins.
func (j *jsonWriter) merge(shared, own []rendered) {
	first := true
	for len(shared)+len(own) > 0 {
		var r rendered
		switch {
		case len(own) == 0 || (len(shared) > 0 && shared[0].key < own[0].key):
			r, shared = shared[0], shared[1:]
		default:
			if len(shared) > 0 && shared[0].key == own[0].key {
				shared = shared[1:]
			}
			r, own = own[0], own[1:]
		}
		j.item(&first, hostVarLevel, r.key)
		j.buf = append(j.buf, r.json...)
	}
}

// sortedKeys returns the indexes of d's entries in the order of their keys.
// Keys that Python cannot compare with each other stay as they are.
func sortedKeys(d *dict) []int {
	order := make([]int, len(d.keys))
	for i := range order {
		order[i] = i
	}
	if d.sortable() {
		slices.SortStableFunc(order, func(a, b int) int {
			na, numbers := numeric(d.keys[a])
			nb, _ := numeric(d.keys[b])
			if numbers {
				return cmp.Compare(na, nb)
			}
			return strings.Compare(keyString(d.keys[a]), keyString(d.keys[b]))
		})
	}
	return order
}

// sortable tells whether Python could sort d's keys: all of one kind.
func (d *dict) sortable() bool {
	if len(d.keys) < 2 {
		return true
	}
	kind := func(k any) int {
		switch k := k.(type) {
		case string, Unsafe:
			return 0
		case int, float64, bool, *big.Int:
			return 1
		case timestamp:
			return 2 + boolOrder(strings.Contains(k.iso, "T"))
		case binaryData:
			return 4
		}
		return -1 // None compares with nothing
	}
	first := kind(d.keys[0])
	for _, k := range d.keys {
		if kind(k) != first || first < 0 {
			return false
		}
	}
	return true
}

// allSortable tells whether every dictionary within v is sortable: if not,
// Python sorts nothing in the whole document. seen spares shared values.
func allSortable(v any, seen map[any]bool) bool {
	switch v := v.(type) {
	case *list:
		if seen[v] {
			return true
		}
		seen[v] = true
		for _, x := range v.items {
			if !allSortable(x, seen) {
				return false
			}
		}
	case *dict:
		if v == nil || seen[v] {
			return true
		}
		seen[v] = true
		if !v.sortable() {
			return false
		}
		for _, x := range v.vals {
			if !allSortable(x, seen) {
				return false
			}
		}
	}
	return true
}

func numeric(k any) (float64, bool) {
	switch k := k.(type) {
	case int:
		return float64(k), true
	case float64:
		return k, true
	case bool:
		return float64(boolOrder(k)), true
	}
	return 0, false
}

const hexDigits = "0123456789abcdef"

func appendJSONString(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		case '\b':
			b = append(b, '\\', 'b')
		case '\f':
			b = append(b, '\\', 'f')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(append(b, s[from:]...), '"')
}
