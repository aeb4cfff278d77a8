package text

import (
	"errors"
	"fmt"
	"strings"
)

// Error says what is wrong, where, and what would be right.
type Error struct {
	Place          // File is "" when no file is concerned
	Text    string // the line in question, cut to a readable length
	Caret   int    // index in Text, in characters, below which the caret stands; -1 for none
	Message string // the cause, without position
	Hint    string // what would be right or what to do; may be empty
	Err     error  // the underlying cause, if there is one
}

// Error is position and cause on the first line, the line in question with a
// caret under it, and the hint. What would drive a terminal is made harmless.
func (e *Error) Error() string {
	var b strings.Builder
	if p := e.Place.String(); p != "" {
		b.WriteString(p)
		b.WriteString(": ")
	}
	b.WriteString(e.Message)
	if e.Text != "" {
		b.WriteString("\n    ")
		b.WriteString(e.Text)
		if e.Caret >= 0 {
			b.WriteString("\n    ")
			// Tabs stay tabs so that the caret lines up in a terminal.
			for i, r := range []rune(e.Text) {
				if i == e.Caret {
					break
				}
				if r != '\t' {
					r = ' '
				}
				b.WriteRune(r)
			}
			b.WriteByte('^')
		}
	}
	if e.Hint != "" {
		b.WriteString("\n")
		b.WriteString(e.Hint)
	}
	return tame(b.String())
}

func (e *Error) Unwrap() error { return e.Err }

// tame takes the sting out of control characters that a file may hold. It changes no
// character's place, below which a caret may stand; see [Printable].
func tame(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || (r >= ' ' && r < 0x7f) || r >= 0xa0 {
			return r
		}
		return '\uFFFD'
	}, s)
}

// Warning is something that Ansible accepts and speaks of; so does fleetd.
type Warning struct {
	Place
	Message string
}

func (w Warning) String() string {
	return (&Error{Place: w.Place, Caret: -1, Message: w.Message}).Error()
}

// advised is an error without a place yet, and what would be right.
type advised struct {
	error
	hint string
}

// Advise is an error of what has no place of its own, such as a host's name,
// and what would be right. Locate gives it one.
func Advise(hint, format string, args ...any) error {
	return advised{fmt.Errorf(format, args...), hint}
}

func (a advised) Unwrap() error { return a.error }

// HintOf is what an error says would be right: one of Advise, or an Error.
func HintOf(err error) string {
	var a advised
	if errors.As(err, &a) {
		return a.hint
	}
	return ""
}

// Locate gives err a place in s. An *Error keeps the one that it has.
func (s *Source) Locate(line, column int, err error) error {
	var e *Error
	if errors.As(err, &e) {
		return err
	}
	located := s.Errorf(line, column, HintOf(err), "%s", err)
	located.Err = err
	return located
}
