package yaml

import (
	"slices"

	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
)

// perByte is how many values aliases and merge keys may make of each byte of a
// file: hosts that merge 200 shared variables in 25 bytes make 8.
const perByte = 8

// Reader gives the nodes of one document their values.
type Reader struct {
	doc    *Document
	opts   Options
	depth  int
	left   int           // values that may still come by aliases and merge keys
	done   map[*Node]any // of nodes that aliases and merge keys share
	shared map[*Node]bool
	open   map[*Node]bool
	size   map[*Node]int
	flat   map[*Node][]Entry
}

// Reader is a new reader of the document.
func (d *Document) Reader(o Options) *Reader {
	return &Reader{doc: d, opts: o, left: d.limits.Expansion + perByte*len(d.Source.Data),
		done: map[*Node]any{}, shared: map[*Node]bool{}, open: map[*Node]bool{}, size: map[*Node]int{}, flat: map[*Node][]Entry{}}
}

// Errorf is an error at a node.
func (r *Reader) Errorf(n *Node, hint, format string, args ...any) error {
	return r.doc.Source.Errorf(n.Line, n.Column, hint, format, args...)
}

func (r *Reader) place(n *Node) text.Place { return r.doc.Source.At(n.Line, n.Column) }

// expand counts values that come by an alias or a merge key. A small file may
// stand for more than memory holds.
func (r *Reader) expand(n *Node, values int) error {
	if r.left -= values; r.left < 0 {
		return r.Errorf(n, "Write the values out, or split the file.", "aliases and merge keys expand to more than %d values", r.doc.limits.Expansion+perByte*len(r.doc.Source.Data))
	}
	return nil
}

// Value is the value of a node.
func (r *Reader) Value(n *Node) (any, error) {
	if r.depth++; r.depth > r.doc.limits.Depth {
		return nil, r.Errorf(n, deepHint, "values are nested too deeply")
	}
	defer func() { r.depth-- }()
	if target := Resolve(n); target != n {
		if r.open[target] {
			return nil, r.Errorf(n, AliasHint, "an alias stands inside the value that it names")
		}
		if err := r.expand(n, r.measure(target, 0)); err != nil {
			return nil, err
		}
		r.shared[target] = true
		n = target
	}
	if v, ok := r.done[n]; ok {
		return v, nil
	}
	var v any
	var err error
	switch n.Kind {
	case ScalarNode:
		v, err = r.scalar(n)
	case SequenceNode:
		v, err = r.sequence(n)
	default:
		v, err = r.mapping(n)
	}
	if err == nil && (n.Anchor != "" || r.shared[n]) {
		r.done[n] = v
	}
	return v, err
}

// Name is the value of what may be a name: that is no secret in an encrypted
// file either.
func (r *Reader) Name(n *Node) (any, error) {
	if n = Resolve(n); n.Kind == ScalarNode {
		return r.bare(n)
	}
	return r.Value(n)
}

// measure is how many values n would be with all aliases written out.
func (r *Reader) measure(n *Node, depth int) int {
	n = Resolve(n)
	if n.Kind == ScalarNode {
		return 1
	}
	if s, ok := r.size[n]; ok {
		return s
	}
	most := r.left + 1
	r.size[n] = most // while measuring: an alias to itself is endless
	sum := 1
	for i, x := range n.Content {
		if n.Kind == MappingNode && i%2 == 0 {
			continue
		}
		if sum >= most || depth > r.doc.limits.Depth {
			sum = most
			break
		}
		sum += r.measure(x, depth+1)
	}
	r.size[n] = min(sum, most)
	return r.size[n]
}

func (r *Reader) enter(n *Node) (leave func()) {
	r.open[n] = true
	return func() { delete(r.open, n) }
}

func (r *Reader) sequence(n *Node) (any, error) {
	t := tag(n)
	switch t {
	case "", "!!seq", "!!omap", "!!pairs", "!unsafe":
	default:
		return nil, r.badTag(n)
	}
	defer r.enter(n)()
	out := make([]any, 0, len(n.Content))
	for _, x := range n.Content {
		v, err := r.Value(x)
		if err != nil {
			return nil, err
		}
		if t == "!!omap" || t == "!!pairs" {
			m, ok := v.(*value.Map)
			if !ok || m.Len() != 1 {
				return nil, r.Errorf(x, "Write it as in !!omap [a: 1, b: 2].", "each item of an ordered map must be one key with one value")
			}
			e := m.Entries()[0]
			v = []any{e.Key, e.Value}
		}
		out = append(out, v)
	}
	if t == "!unsafe" {
		return markUnsafe(out), nil
	}
	return out, nil
}

func (r *Reader) mapping(n *Node) (any, error) {
	t := tag(n)
	if !slices.Contains([]string{"", "!!map", "!!set", "!unsafe"}, t) {
		return nil, r.badTag(n)
	}
	defer r.enter(n)()
	entries, err := r.Entries(n)
	if err != nil {
		return nil, err
	}
	m := value.NewMap(len(entries))
	for _, e := range entries {
		v, err := r.Value(e.Value)
		if err != nil {
			return nil, err
		}
		m.SetAt(e.Key, v, r.place(e.KeyNode))
	}
	if t == "!unsafe" {
		return markUnsafe(m), nil
	}
	return m, nil
}

// markUnsafe is v with every string in it marked as no template.
func markUnsafe(v any) any {
	out, _ := value.MapScalars(v, func(x any) (any, error) {
		switch x := x.(type) {
		case string:
			return value.Unsafe(x), nil
		case value.Secret:
			return x.Map(func(v any) any {
				if s, ok := v.(string); ok {
					return value.Unsafe(s)
				}
				return v
			}), nil
		}
		return x, nil
	})
	return out
}
