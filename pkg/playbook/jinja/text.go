package jinja

import (
	"fmt"

	"github.com/fleetd/fleetd/pkg/value"
)

// Text is Python's str(v).
func Text(v any) string {
	if _, ok := v.(Undefined); ok {
		return ""
	}
	return value.Str(v)
}

// output is the text of a value that a template prints: None prints nothing,
// because Ansible says so.
func output(v any) string {
	if v == nil {
		return ""
	}
	return Text(v)
}

// What no text can be made of prints its type.
func (o Omit) String() string   { return typeText(o) }
func (o Opaque) String() string { return typeText(o) }
func (m method) String() string { return typeText(m) }

func typeText(v any) string { return fmt.Sprintf("<%s>", TypeName(v)) }
