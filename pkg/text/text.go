// Package text holds what a person wrote, and says where in it something is
// wrong: sources, places in them, and errors that quote the line.
//
// It is the floor that everything stands on that reads files of a user's:
// inventories, playbooks, their YAML. It imports nothing of fleetd.
package text

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Redacted stands for what is secret, wherever it would be shown.
const Redacted = "***"

// Source is one text and the name that people know it by.
type Source struct {
	Name string
	Data string
	// Secret is set for content that came out of a vault: it is never quoted.
	Secret bool
}

// Place is where something stands. Line and Column count from 1, columns in
// characters; 0 means that the whole file, or the whole line, is meant. The
// zero Place is nowhere.
type Place struct {
	File   string // as the user knows it; "extra vars" for -e
	Line   int
	Column int
}

// String is "file:line:column", as far as it is known.
func (p Place) String() string {
	switch {
	case p.Line <= 0:
		return p.File
	case p.Column <= 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// At is the place of a line and column of s.
func (s *Source) At(line, column int) Place { return Place{s.Name, line, column} }

// Offset is the line and column of a byte offset, both from 1.
func (s *Source) Offset(i int) (line, column int) {
	before := s.Data[:min(i, len(s.Data))]
	start := strings.LastIndexByte(before, '\n') + 1
	return 1 + strings.Count(before, "\n"), 1 + utf8.RuneCountInString(before[start:])
}

// Line is line n, from 1, without its line break; "" beyond the end.
func (s *Source) Line(n int) string {
	data := s.Data
	for ; n > 1; n-- {
		_, rest, ok := strings.Cut(data, "\n")
		if !ok {
			return ""
		}
		data = rest
	}
	line, _, _ := strings.Cut(data, "\n")
	return strings.TrimSuffix(line, "\r")
}

// Errorf is an error at a line and column of s, with the line and a hint of
// what would be right.
func (s *Source) Errorf(line, column int, hint, format string, args ...any) *Error {
	e := &Error{Place: s.At(line, column), Caret: -1, Hint: hint, Message: fmt.Sprintf(format, args...)}
	if line > 0 && !s.Secret {
		e.Text, e.Caret = excerpt(s.Line(line), column)
	}
	return e
}

// Clip shortens what a message quotes of s; of a secret text it quotes nothing.
func (s *Source) Clip(v string) string {
	if s.Secret {
		return Redacted
	}
	return Clip(v)
}

// CheckUTF8 is the error at the first byte that is not UTF-8, and nil if there
// is none.
func (s *Source) CheckUTF8() error {
	if utf8.ValidString(s.Data) {
		return nil
	}
	i := 0
	for i < len(s.Data) {
		r, n := utf8.DecodeRuneInString(s.Data[i:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		i += n
	}
	line, column := s.Offset(i)
	return s.Errorf(line, column, "Save the file as UTF-8.", "the file is not valid UTF-8: byte 0x%02x", s.Data[i])
}

// clipped is how many bytes of a text a message quotes.
const clipped = 60

// Clip shortens text that is quoted within a message.
func Clip(s string) string {
	if len(s) > clipped {
		return strings.ToValidUTF8(s[:clipped], "") + "…"
	}
	return s
}

// shownChars bounds the line that is quoted below a message: a person reads a
// screen's width, and a line of 100 MB must not be copied into an error.
const shownChars = 160

// excerpt cuts a line so that the column stays visible. The caret is its index
// in the excerpt, in characters, -1 for column 0.
func excerpt(line string, column int) (shown string, caret int) {
	skipped := 0
	if column > shownChars*3/4 {
		for skipped < column-shownChars/2 && line != "" {
			_, n := utf8.DecodeRuneInString(line)
			line = line[n:]
			skipped++
		}
	}
	var b strings.Builder
	if skipped > 0 {
		b.WriteString("…")
	}
	chars := 0
	for _, r := range line {
		if chars == shownChars {
			b.WriteString("…")
			break
		}
		b.WriteRune(r)
		chars++
	}
	if column <= 0 {
		return b.String(), -1
	}
	caret = column - 1 - skipped
	if skipped > 0 {
		caret++
	}
	return b.String(), min(caret, utf8.RuneCountInString(b.String()))
}
