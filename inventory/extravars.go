package inventory

import (
	"fmt"

	"github.com/fleetd/fleetd/inventory/source"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
	"github.com/fleetd/fleetd/pkg/words"
)

// extraVars reads -e arguments in order; later ones win.
func (inv *Inventory) extraVars(args []string) (*value.Map, error) {
	out := &value.Map{}
	for _, arg := range args {
		if arg == "" {
			continue
		}
		what := fmt.Sprintf("extra vars %q", text.Clip(arg))
		at := text.Place{File: "extra vars"}
		var v any
		var err error
		switch arg[0] {
		case '@':
			var src *text.Source
			if src, err = inv.files.Read(source.Clean(arg[1:])); err == nil {
				v, _, err = inv.files.Value(src)
			}
		case '/', '.':
			return nil, &text.Error{Caret: -1, Message: what + " look like a file", Hint: "Put an @ before the file's name: -e @" + text.Clip(arg)}
		case '[', '{':
			v, _, err = inv.files.Value(&text.Source{Name: at.File, Data: arg})
		default:
			if v, err = words.KeyValues(arg); err != nil {
				err = &text.Error{Caret: -1, Message: fmt.Sprintf("cannot split the %s: %v", what, err), Err: err}
			}
		}
		if err != nil {
			return nil, err
		}
		m, ok := v.(*value.Map)
		if !ok {
			return nil, &text.Error{Caret: -1, Message: fmt.Sprintf("%s are not a dictionary but %s", what, value.Kind(v)),
				Hint: "Give key=value, JSON as '{\"key\": \"value\"}', or @file."}
		}
		for _, e := range m.Entries() {
			if e.At.File == "" {
				e.At = at
			}
			out.Put(e, inv.opts.Settings.HashMerge)
		}
	}
	return out, nil
}
