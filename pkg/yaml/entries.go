package yaml

import (
	"fmt"
	"slices"

	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
)

// Entries are the keys and values of a mapping after merge keys (<<) are
// resolved: merged ones first, so that the mapping's own win. A key that stands
// twice keeps its first place and its last value.
func (r *Reader) Entries(n *Node) ([]Entry, error) {
	if e, ok := r.flat[n]; ok {
		return e, nil
	}
	var merged, own []Entry
	for i := 0; i+1 < len(n.Content); i += 2 {
		kn, vn := n.Content[i], n.Content[i+1]
		if k := Resolve(kn); isMergeKey(k) {
			m, err := r.merge(n, kn, vn)
			if err != nil {
				return nil, err
			}
			merged = append(merged, m...)
			continue
		}
		k, err := r.key(kn)
		if err != nil {
			return nil, err
		}
		own = append(own, Entry{k, kn, vn})
	}
	all := append(merged, own...)
	at := map[any]int{}
	kept := all[:0]
	for _, e := range all {
		i, twice := at[value.Key(e.Key)]
		if !twice {
			at[value.Key(e.Key)] = len(kept)
			kept = append(kept, e)
			continue
		}
		if err := r.duplicate(e, kept[i]); err != nil {
			return nil, err
		}
		kept[i].KeyNode, kept[i].Value = e.KeyNode, e.Value
	}
	if len(merged) > 0 && n.Anchor != "" {
		r.flat[n] = kept
	}
	return kept, nil
}

// duplicate says of a key that it stands twice. The value that is dropped must
// be one all the same.
func (r *Reader) duplicate(e, dropped Entry) error {
	switch {
	case r.doc.JSON || r.opts.Duplicates == "ignore": // JSON takes the last without a word
	case r.opts.Duplicates == "error":
		return r.Errorf(e.KeyNode, "Remove one of the two.", "the key %s stands twice in this dictionary", value.Word(e.Key))
	case r.opts.Warn != nil:
		r.opts.Warn(text.Warning{Place: r.place(e.KeyNode), Message: fmt.Sprintf("the key %s stands twice in this dictionary, the last value is used", value.Word(e.Key))})
	}
	_, err := r.Value(dropped.Value)
	return err
}

func isMergeKey(k *Node) bool {
	return k.Kind == ScalarNode && (tag(k) == "!!merge" || tag(k) == "" && plain(k) && k.Value == "<<")
}

const mergeHint = "Give << a dictionary or a list of dictionaries, usually *an_anchor."

// merge are the entries that a merge key brings into n.
func (r *Reader) merge(n, kn, vn *Node) ([]Entry, error) {
	target := Resolve(vn)
	var from []*Node
	switch target.Kind {
	case MappingNode:
		from = []*Node{vn}
	case SequenceNode:
		from = slices.Clone(target.Content)
		slices.Reverse(from) // the first in the list wins
		defer r.enter(target)()
	default:
		return nil, r.Errorf(vn, mergeHint, "only dictionaries can be merged with <<")
	}
	var out []Entry
	for _, x := range from {
		m := Resolve(x)
		if m.Kind != MappingNode {
			return nil, r.Errorf(x, mergeHint, "only dictionaries can be merged with <<")
		}
		if m == n || r.open[m] {
			return nil, r.Errorf(x, AliasHint, "an alias stands inside the value that it names")
		}
		leave := r.enter(m)
		e, err := r.Entries(m)
		leave()
		if err != nil {
			return nil, err
		}
		if err := r.expand(kn, len(e)); err != nil {
			return nil, err
		}
		for i := range e { // one value for all that merge it
			r.shared[e[i].Value] = true
		}
		out = append(out, e...)
	}
	return out, nil
}

// key is the value of a key.
func (r *Reader) key(kn *Node) (any, error) {
	n := Resolve(kn)
	if n.Kind != ScalarNode {
		return nil, r.Errorf(kn, "A template in braces must be quoted: \"{{ name }}\".", "a dictionary key must be a single value")
	}
	if plain(n) && tag(n) == "" && n.Value == "=" {
		return "=", nil
	}
	k, err := r.bare(n) // names in an encrypted file are no secrets
	if err != nil {
		return nil, err
	}
	switch k := k.(type) {
	case value.Unsafe:
		return string(k), nil
	case value.Secret:
		return nil, r.Errorf(kn, "Encrypt the value, not the name.", "a vault cannot be a dictionary key")
	}
	return k, nil
}
