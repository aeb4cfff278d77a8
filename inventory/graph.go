package inventory

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrNotAGroup is that --graph was given something that is no group's name.
var ErrNotAGroup = errors.New("--graph needs the name of a group")

// WriteGraph writes what ansible-inventory --graph prints: the tree of groups
// and hosts below a group ("" is all), with their variables if vars is set.
func (inv *Inventory) WriteGraph(w io.Writer, groupName string, vars bool, o ExportOptions) error {
	if groupName == "" {
		groupName = "all"
	}
	g := inv.loader.d.groups[groupName]
	if g == nil {
		return fmt.Errorf("%w, there is none named %q", ErrNotAGroup, groupName)
	}
	shows := o.shows()
	var b bytes.Buffer
	line := func(name string, depth int) {
		if depth > 0 {
			b.WriteString(strings.Repeat("  |", depth))
			b.WriteString("--")
		}
		b.WriteString(name)
		b.WriteByte('\n')
	}
	var unopened error
	list := func(d *dict, depth int) {
		for _, i := range sortedKeys(d) {
			if o.ShowSecrets && unopened == nil {
				unopened = opened(d.vals[i])
			}
			line(fmt.Sprintf("{%s = %s}", keyString(d.keys[i]), pyStr(d.vals[i], o.ShowSecrets)), depth)
		}
	}
	var walk func(g *group, depth int) error
	walk = func(g *group, depth int) error {
		line("@"+g.name+":", depth)
		for _, c := range g.children {
			if err := walk(c, depth+1); err != nil {
				return err
			}
		}
		if g.name != "all" {
			for _, h := range filter(g.hosts, shows) {
				line(h.name, depth+1)
				if vars {
					list(inv.hostShown(h, o), depth+2)
				}
			}
		}
		if vars {
			d, err := inv.groupShown(g, o)
			if err != nil {
				return err
			}
			list(d, depth+1)
		}
		return nil
	}
	if err := walk(g, 0); err != nil {
		return err
	}
	if unopened != nil {
		return unopened
	}
	_, err := w.Write(b.Bytes())
	return err
}

// opened is the first error of the !vault strings in a value: who asked for
// secrets must not take *** for one.
func opened(v any) error {
	switch v := v.(type) {
	case Secret:
		_, err := v.inner()
		return err
	case *list:
		for _, x := range v.items {
			if err := opened(x); err != nil {
				return err
			}
		}
	case *dict:
		for _, x := range v.vals {
			if err := opened(x); err != nil {
				return err
			}
		}
	}
	return nil
}
