// Package words splits text into words as Ansible does: the host lines of an INI
// inventory as a shell would, and key=value arguments.
package words

import (
	"errors"
	"strings"

	"github.com/fleetd/fleetd/pkg/text"
)

// Word is one word of a line, quotes and escapes removed.
type Word struct {
	Text string
	At   int // byte offset in the line
}

// Shell splits a line as Python's shlex.split does: POSIX
// quotes and escapes, and with comments a # that starts one even within a word. It adds
// to words.
func Shell(words []Word, line string, comments bool) ([]Word, error) {
	if !strings.ContainsAny(line, "\\'\"#\r\n") {
		return plainWords(words, line), nil
	}
	const (
		between = iota
		inWord
		single
		double
		escaped
	)
	var cur []byte
	var started, at = false, 0
	state, back := between, inWord
	flush := func() {
		if started {
			words = append(words, Word{string(cur), at})
		}
		cur, started = cur[:0:0], false
	}
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch state {
		case between, inWord:
			switch {
			case c == ' ' || c == '\t' || c == '\r' || c == '\n':
				flush()
				state = between
				continue
			case c == '#' && comments:
				flush()
				return words, nil
			}
			if !started {
				at = i
			}
			switch c {
			case '\\':
				back, state = inWord, escaped
			case '\'', '"':
				started = true
				state = single
				if c == '"' {
					state = double
				}
			default:
				started = true
				cur = append(cur, c)
				state = inWord
			}
		case single:
			if c == '\'' {
				state = inWord
			} else {
				cur = append(cur, c)
			}
		case double:
			switch c {
			case '"':
				state = inWord
			case '\\':
				back, state = double, escaped
			default:
				cur = append(cur, c)
			}
		case escaped:
			if back == double && c != '\\' && c != '"' {
				cur = append(cur, '\\')
			}
			cur = append(cur, c)
			started = true
			state = back
		}
	}
	switch state {
	case single, double:
		return nil, errors.New("a quote is not closed")
	case escaped:
		return nil, errors.New("nothing follows the backslash at the end")
	}
	flush()
	return words, nil
}

// plainWords splits a line without quotes, escapes and comments.
func plainWords(words []Word, line string) []Word {
	for i := 0; i < len(line); {
		n := text.Span(line, i, func(c byte) bool { return c != ' ' && c != '\t' })
		if n > i {
			words = append(words, Word{line[i:n], i})
		}
		i = n + 1
	}
	return words
}
