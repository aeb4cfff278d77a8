package playbook

import (
	"fmt"
	"maps"
	"slices"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
	"github.com/fleetd/fleetd/pkg/value"
)

// mostItems bounds a loop: its items are in the plan.
const mostItems = 10_000

// loops are the keywords that repeat a task, each with what makes its items of its
// value. Source: ansible/plugins/lookup.
var loops = map[string]func(v any) ([]any, error){
	"loop":               needList,
	"with_list":          needList,
	"with_items":         anyItems,
	"with_dict":          pairsOf,
	"with_indexed_items": indexed,
	"with_together":      together,
	"with_nested":        nested,
	"with_sequence":      sequences,
	"with_subelements":   subElements,
}

func loopNames() []string { return slices.Sorted(maps.Keys(loops)) }

// itemsOf makes the items of what the value of a loop came out as.
func itemsOf(kind string, v any) ([]any, error) {
	make, ok := loops[kind]
	if !ok {
		return nil, fmt.Errorf("there is no loop %q", kind)
	}
	items, err := make(v)
	if err != nil {
		return nil, err
	}
	if len(items) > mostItems {
		return nil, tooMany(len(items))
	}
	return items, nil
}

func tooMany(n int) error { return fmt.Errorf("a loop of %d items is more than %d", n, mostItems) }

func needList(v any) ([]any, error) {
	l, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("a loop needs a list, this is %s", typeName(v))
	}
	return l, nil
}

// anyItems takes whatever there is.
func anyItems(v any) ([]any, error) { return flattened(asList(v)), nil } //nolint:unparam // one of several, and others fail

func asList(v any) []any {
	if l, ok := v.([]any); ok {
		return l
	}
	return []any{v}
}

// flattened takes lists within a list apart, one level deep.
func flattened(l []any) []any {
	var out []any
	for _, x := range l {
		if inner, ok := x.([]any); ok {
			out = append(out, inner...)
		} else {
			out = append(out, x)
		}
	}
	return out
}

// pairsOf are the entries of dictionaries, each with key and value.
func pairsOf(v any) ([]any, error) {
	var out []any
	for _, d := range asList(v) {
		m, ok := d.(*value.Map)
		if !ok {
			return nil, fmt.Errorf("with_dict needs a dictionary, this is %s", typeName(d))
		}
		for k, x := range m.All() {
			pair := &value.Map{}
			pair.Set("key", k)
			pair.Set("value", x)
			out = append(out, pair)
		}
	}
	return out, nil
}

// indexed are the items with their numbers from 0.
func indexed(v any) ([]any, error) {
	l, err := needList(v)
	if err != nil {
		return nil, err
	}
	var out []any
	for n, x := range flattened(l) {
		out = append(out, []any{int64(n), x})
	}
	return out, nil
}

// together are the first of each list, the second of each and so on; none stands for
// what a shorter one has not.
func together(v any) ([]any, error) {
	lists, err := listsIn(v)
	if err != nil {
		return nil, err
	}
	var out []any
	for n := 0; ; n++ {
		row, any := make([]any, len(lists)), false
		for i, l := range lists {
			if n < len(l) {
				row[i], any = l[n], true
			}
		}
		if !any {
			return out, nil
		}
		out = append(out, flattened(row))
	}
}

// nested is each of the first list with each of the second and so on.
func nested(v any) ([]any, error) {
	lists, err := listsIn(v)
	if err != nil {
		return nil, err
	}
	rows := []any{[]any{}}
	for _, l := range lists {
		if len(rows)*len(l) > mostItems {
			return nil, tooMany(len(rows) * len(l))
		}
		var next []any
		for _, row := range rows {
			for _, x := range l {
				next = append(next, append(slices.Clone(row.([]any)), asList(x)...))
			}
		}
		rows = next
	}
	return rows, nil
}

func listsIn(v any) ([][]any, error) {
	l, err := needList(v)
	if err != nil {
		return nil, err
	}
	if len(l) == 0 {
		return nil, fmt.Errorf("it needs at least one list")
	}
	var out [][]any
	for _, x := range l {
		if _, isMapping := x.(jinja.Mapping); isMapping {
			return nil, fmt.Errorf("a list belongs here, not %s", typeName(x))
		}
		out = append(out, asList(x))
	}
	return out, nil
}
