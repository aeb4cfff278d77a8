package jinja

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/fleetd/fleetd/pkg/value"
)

// Format is Python's format % arg.
func Format(format string, arg any) (string, error) {
	v, err := formatPercent(format, []any{arg}, 0)
	if err != nil {
		return "", err
	}
	return Text(v), nil
}

// formatPercent is Python's printf-like formatting with %s, %r, %d, %i, %f, %x,
// %o and %e, flags, width and precision.
//
// Python lets values be left over if they are a list or a dictionary by
// itself, as in 'x' % [1]: it might have been looked up by key.
func formatPercent(format string, args []any, at int) (any, error) {
	mayBeLeft := false
	if len(args) == 1 {
		switch args[0].(type) {
		case []any, *value.Map:
			mayBeLeft = true
		}
	}
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			b.WriteByte(format[i])
			continue
		}
		start := i
		i++
		for i < len(format) && strings.IndexByte("-+ 0#", format[i]) >= 0 {
			i++
		}
		for _, sep := range []byte{0, '.'} {
			if sep != 0 {
				if i >= len(format) || format[i] != sep {
					break
				}
				i++
			}
			digits := i
			for i < len(format) && format[i] >= '0' && format[i] <= '9' {
				i++
			}
			if n, _ := strconv.Atoi(format[digits:i]); n > 1000 {
				return nil, errorAt(at, "the width %s in a format is too large", format[digits:i])
			}
		}
		if i >= len(format) {
			return nil, errorAt(at, "the format %q ends in the middle of a %%", format)
		}
		if format[i] == '%' {
			b.WriteByte('%')
			continue
		}
		if len(args) == 0 {
			return nil, errorAt(at, "the format %q needs more values than it is given", format)
		}
		spec, v := format[start:i], args[0]
		args = args[1:]
		n, f, isInt, isNum := number(v)
		switch verb := format[i]; verb {
		case 's':
			fmt.Fprintf(&b, spec+"s", Text(v))
		case 'r':
			fmt.Fprintf(&b, spec+"s", value.Repr(v))
		case 'd', 'i', 'x', 'X', 'o':
			if !isNum || !isInt && verb != 'd' && verb != 'i' {
				return nil, errorAt(at, "%%%c needs a whole number, not %s", verb, TypeName(v))
			}
			if !isInt {
				n = int64(f)
			}
			if verb == 'i' {
				verb = 'd'
			}
			fmt.Fprintf(&b, spec+string(verb), n)
		case 'f', 'F', 'e', 'E', 'g', 'G':
			if !isNum {
				return nil, errorAt(at, "%%%c needs a number, not %s", verb, TypeName(v))
			}
			if strings.IndexByte("gG", verb) >= 0 && !strings.Contains(spec, ".") {
				spec += ".6"
			}
			fmt.Fprintf(&b, spec+string(verb), f)
		default:
			return nil, errorAt(at, "the format %q has the unknown verb %%%c", format, verb)
		}
	}
	if len(args) > 0 && !mayBeLeft {
		return nil, errorAt(at, "the format %q is given more values than it takes", format)
	}
	return limited(b.String(), at)
}
