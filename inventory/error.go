package inventory

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxShownText bounds the source line quoted in an error: a person reads a
// screen's width, and a 100 MB line must not be copied into a message.
const maxShownText = 160

// Error says what is wrong with an inventory, where, and what would be right.
type Error struct {
	File    string // as the user knows it; "" when no file is concerned
	Line    int    // from 1; 0 when the whole file is meant
	Column  int    // from 1, in characters; 0 when the whole line is meant
	Text    string // the offending line, cut to a readable length
	Caret   int    // index in Text, in characters, under which the caret stands; -1 for none
	Message string // the cause, without position
	Hint    string // what would be right or what to do; may be empty
	Err     error  // the underlying cause, if there is one
}

// Position is "file:line:column", as far as it is known.
func (e *Error) Position() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
		if e.Column > 0 {
			fmt.Fprintf(&b, ":%d", e.Column)
		}
	}
	return b.String()
}

// Error renders position and cause on the first line, the offending text with
// a caret under it, and the hint.
func (e *Error) Error() string {
	var b strings.Builder
	if p := e.Position(); p != "" {
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
				if r == '\t' {
					b.WriteByte('\t')
				} else {
					b.WriteByte(' ')
				}
			}
			b.WriteByte('^')
		}
	}
	if e.Hint != "" {
		b.WriteString("\n")
		b.WriteString(e.Hint)
	}
	return printable(b.String())
}

// printable takes the sting out of control characters that an inventory may
// hold: a message must not drive the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || (r >= ' ' && r < 0x7f) || r >= 0xa0 {
			return r
		}
		return '�'
	}, s)
}

func (e *Error) Unwrap() error { return e.Err }

// Warning is something that Ansible accepts and speaks of; so does fleetd.
type Warning struct {
	File    string
	Line    int
	Column  int
	Message string
}

func (w Warning) String() string {
	e := Error{File: w.File, Line: w.Line, Column: w.Column, Caret: -1, Message: w.Message}
	return e.Error()
}

// text is a source file's name and content, kept to quote it in errors.
type text struct {
	name string // for people
	data string
	// secret is set for content that came out of a vault: it is never quoted.
	secret bool
}

// errorAt builds an Error at line and column (both from 1, column in
// characters; 0 = unknown).
func (t *text) errorAt(line, column int, hint, format string, args ...any) *Error {
	e := &Error{File: t.name, Line: line, Column: column, Caret: -1, Hint: hint, Message: fmt.Sprintf(format, args...)}
	if line <= 0 || t.secret {
		return e
	}
	e.Text, e.Caret = excerpt(lineOf(t.data, line), column)
	return e
}

// advised is an error of the model, without a place yet, and what would be
// right.
type advised struct {
	error
	hint string
}

func advise(hint, format string, args ...any) error {
	return advised{fmt.Errorf(format, args...), hint}
}

func (a advised) Unwrap() error { return a.error }

// hintOf is what an error of the model says would be right.
func hintOf(err error) string {
	var a advised
	if errors.As(err, &a) {
		return a.hint
	}
	return ""
}

// clip shortens what a message quotes of the text; of one that came out of a
// vault it quotes nothing.
func (t *text) clip(s string) string {
	if t.secret {
		return redacted
	}
	return clip(s)
}

// lineOf returns line n (from 1) of data without its line break.
func lineOf(data string, n int) string {
	for ; n > 1; n-- {
		i := strings.IndexByte(data, '\n')
		if i < 0 {
			return ""
		}
		data = data[i+1:]
	}
	if i := strings.IndexByte(data, '\n'); i >= 0 {
		data = data[:i]
	}
	return strings.TrimSuffix(data, "\r")
}

// excerpt cuts a line so that the column stays visible, and returns the caret's index.
func excerpt(line string, column int) (string, int) {
	from, chars := 0, 0
	if column > maxShownText*3/4 {
		skip := column - maxShownText/2
		for from < len(line) && chars < skip {
			_, n := utf8.DecodeRuneInString(line[from:])
			from += n
			chars++
		}
	}
	var b strings.Builder
	if from > 0 {
		b.WriteString("…")
	}
	shown := 0
	for i := from; i < len(line); {
		if shown == maxShownText {
			b.WriteString("…")
			break
		}
		r, n := utf8.DecodeRuneInString(line[i:])
		b.WriteRune(r)
		i += n
		shown++
	}
	if column <= 0 {
		return b.String(), -1
	}
	caret := column - 1 - chars
	if from > 0 {
		caret++
	}
	return b.String(), min(caret, utf8.RuneCountInString(b.String()))
}
