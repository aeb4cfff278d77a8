package export

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/pkg/value"
)

// ErrNotAGroup is that --graph was given something that is no group's name.
var ErrNotAGroup = errors.New("--graph needs the name of a group")

// graph is the tree while it is drawn.
type graph struct {
	*exporter
	vars bool
	b    bytes.Buffer
}

// Graph writes what ansible-inventory --graph prints: the tree of groups and
// hosts below a group ("" is all), with their variables if vars is set.
func Graph(w io.Writer, inv *inventory.Inventory, group string, vars bool, o Options) error {
	if group == "" {
		group = "all"
	}
	if _, ok := inv.Group(group); !ok {
		return fmt.Errorf("%w, there is none named %q", ErrNotAGroup, group)
	}
	g := &graph{exporter: newExporter(inv, o), vars: vars}
	if err := g.draw(group, 0); err != nil {
		return err
	}
	_, err := w.Write(g.b.Bytes())
	return err
}

func (g *graph) line(depth int, name string) {
	if depth > 0 {
		g.b.WriteString(strings.Repeat("  |", depth) + "--")
	}
	g.b.WriteString(name + "\n")
}

func (g *graph) draw(name string, depth int) error {
	group := g.group(name)
	g.line(depth, "@"+name+":")
	for _, c := range group.Children {
		if err := g.draw(c, depth+1); err != nil {
			return err
		}
	}
	if name != "all" {
		for _, h := range g.shown(group.Hosts) {
			g.line(depth+1, h)
			if g.vars {
				if err := g.list(depth + 2)(g.hostVars(h)); err != nil {
					return err
				}
			}
		}
	}
	if !g.vars {
		return nil
	}
	return g.list(depth + 1)(g.groupVars(group))
}

// list writes variables in the order of their names.
func (g *graph) list(depth int) func(*value.Map, error) error {
	return func(vars *value.Map, err error) error {
		if err != nil {
			return err
		}
		for _, e := range vars.Sorted() {
			v := e.Value
			if g.ShowSecrets {
				// Who asked for secrets must not take *** for one.
				if v, err = value.Reveal(v); err != nil {
					return err
				}
			}
			g.line(depth, "{"+value.Word(e.Key)+" = "+value.Str(v)+"}")
		}
		return nil
	}
}
