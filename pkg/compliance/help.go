package compliance

import (
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"
)

// Help lists, for whoever writes a file of policies, the rules with their arguments
// and the facts that an expression can ask.
func Help(w io.Writer, o Options) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	rules := rulesOf(o)
	for _, name := range sorted(rules) {
		r := rules[name]
		where := ""
		if r.Cluster {
			where = " (asked of the cluster)"
		}
		fmt.Fprintf(tw, "%s: %s%s\n", name, r.Help, where)
		for _, arg := range sorted(r.Params) {
			p := r.Params[arg]
			kind := string(p.Type)
			if p.Required {
				kind += ", required"
			}
			fmt.Fprintf(tw, "    %s\t%s\t%s\n", arg, kind, p.Help)
		}
	}
	fmt.Fprint(tw, "\nFacts for expressions\n")
	fmt.Fprintf(tw, "    %s\tstring\n    %s\ttimestamp\n", hostVariable, nowVariable)
	for _, f := range o.Facts {
		writeFacts(tw, f.Section.Name(), f.Section.Type(), nil)
	}
	return tw.Flush()
}

// writeFacts lists the fields below a path; within holds the types above, since a type
// may hold itself.
func writeFacts(w io.Writer, path string, t reflect.Type, within []reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			name = f.Name // as CEL calls it
		}
		here, inner := path+"."+name, f.Type
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice || inner.Kind() == reflect.Map {
			switch inner.Kind() {
			case reflect.Slice:
				here += "[]"
			case reflect.Map:
				here += "[key]"
			}
			inner = inner.Elem()
		}
		again := false
		for _, above := range within {
			again = again || above == inner
		}
		if inner.Kind() == reflect.Struct && !again {
			writeFacts(w, here, inner, append(within, t))
			continue
		}
		kind := strings.TrimRight(inner.Kind().String(), "0123456789")
		if inner.Kind() == reflect.Uint8 { // as CEL has a list of bytes
			here, kind = strings.TrimSuffix(here, "[]"), "bytes"
		}
		fmt.Fprintf(w, "    %s\t%s\n", here, kind)
	}
}
