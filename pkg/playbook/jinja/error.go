package jinja

import "fmt"

// Error says what is wrong in a template and where.
type Error struct {
	// Offset is the byte offset in the source of what is wrong.
	Offset int
	// Token is the text at Offset that is wrong; it may be empty.
	Token   string
	Message string
	Hint    string
	// Undefined is the name of the variable that is undefined, if that is what
	// is wrong.
	Undefined string
	Err       error
}

func (e *Error) Error() string { return e.Message }
func (e *Error) Unwrap() error { return e.Err }

func errorAt(offset int, format string, a ...any) *Error {
	return &Error{Offset: offset, Message: fmt.Sprintf(format, a...)}
}

func (e *Error) hint(format string, a ...any) *Error {
	e.Hint = fmt.Sprintf(format, a...)
	return e
}

func (e *Error) token(t string) *Error {
	e.Token = t
	return e
}
