package jinja

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

type kind int

const (
	tEOF kind = iota
	tData
	tVarBegin
	tVarEnd
	tBlockBegin
	tBlockEnd
	tName
	tString
	tInt
	tFloat
	tOp
)

type token struct {
	kind kind
	text string // name, operator, decoded string, data
	i    int64
	f    float64
	at   int // byte offset in the source
	end  int
}

func (t token) describe() string {
	switch t.kind {
	case tEOF:
		return "the end of the template"
	case tVarEnd, tBlockEnd:
		return "the end of the expression"
	case tString:
		return "a string"
	}
	return strconv.Quote(t.text)
}

var operators = []string{
	"//", "**", "==", "!=", "<=", ">=",
	"+", "-", "*", "/", "%", "~", "<", ">", "=", "(", ")", "[", "]", "{", "}", ".", ",", ":", "|", ";",
}

type lexer struct {
	src    string
	pos    int
	tokens []token
	// file is set for a template that is a file of its own.
	file *FileOptions
}

// lexTemplate splits a text into data, {{ }} and {% %}. Comments vanish. As
// Ansible sets trim_blocks, a newline after a block belongs to the block.
func lexTemplate(src string, file *FileOptions) ([]token, error) {
	l := &lexer{src: src, file: file}
	stripNext := false
	for {
		next := l.nextDelimiter()
		data := l.src[l.pos:next]
		at := l.pos
		if stripNext {
			trimmed := strings.TrimLeftFunc(data, unicode.IsSpace)
			at += len(data) - len(trimmed)
			data = trimmed
		}
		if next < len(src) && strings.HasPrefix(src[next+2:], "-") {
			data = strings.TrimRightFunc(data, unicode.IsSpace)
		} else {
			data = l.lstripped(data, next)
		}
		if data != "" {
			l.tokens = append(l.tokens, token{kind: tData, text: data, at: at, end: at + len(data)})
		}
		if next == len(src) {
			l.tokens = append(l.tokens, token{kind: tEOF, at: next, end: next})
			return l.tokens, nil
		}
		l.pos = next
		strip, err := l.construct()
		if err != nil {
			return nil, err
		}
		stripNext = strip
	}
}

func (l *lexer) nextDelimiter() int {
	for i := l.pos; i+1 < len(l.src); i++ {
		if l.src[i] == '{' && strings.IndexByte("{%#", l.src[i+1]) >= 0 {
			return i
		}
	}
	return len(l.src)
}

// construct lexes one {{ }}, {% %} or {# #} and reports whether white space
// after it is to go.
func (l *lexer) construct() (strip bool, err error) {
	start := l.pos
	c := l.src[start+1]
	l.pos += 2
	if l.pos < len(l.src) && (l.src[l.pos] == '-' || l.src[l.pos] == '+') {
		l.pos++
	}
	switch c {
	case '#':
		i := strings.Index(l.src[l.pos:], "#}")
		if i < 0 {
			return false, errorAt(start, "this comment has no end").token("{#").hint("close it with #}")
		}
		strip = i > 0 && l.src[l.pos+i-1] == '-'
		l.pos += i + 2
		l.skipNewline()
		return strip, nil
	case '{':
		l.tokens = append(l.tokens, token{kind: tVarBegin, text: "{{", at: start, end: l.pos})
		return l.expression("}}", tVarEnd, start, l.file != nil)
	}
	if end, strip, ok, err := l.raw(start); ok || err != nil {
		l.pos = end
		return strip, err
	}
	l.tokens = append(l.tokens, token{kind: tBlockBegin, text: "{%", at: start, end: l.pos})
	strip, err = l.expression("%}", tBlockEnd, start, true)
	l.skipNewline()
	return strip, err
}

func (l *lexer) skipNewline() {
	if l.file != nil && !l.file.TrimBlocks {
		return
	}
	if strings.HasPrefix(l.src[l.pos:], "\r\n") {
		l.pos += 2
	} else if strings.HasPrefix(l.src[l.pos:], "\n") {
		l.pos++
	}
}

// raw takes {% raw %}…{% endraw %} as data.
func (l *lexer) raw(start int) (end int, strip, ok bool, err error) {
	rest, found := strings.CutPrefix(strings.TrimLeft(l.src[l.pos:], " \t\n"), "raw")
	if !found {
		return l.pos, false, false, nil
	}
	rest = strings.TrimLeft(rest, " \t\n")
	after, found := strings.CutPrefix(strings.TrimPrefix(rest, "-"), "%}")
	if !found {
		return l.pos, false, false, nil
	}
	begin := len(l.src) - len(after)
	for i := begin; i < len(l.src); i++ {
		if !strings.HasPrefix(l.src[i:], "{%") {
			continue
		}
		t := strings.TrimLeft(strings.TrimPrefix(l.src[i+2:], "-"), " \t\n")
		t, isEnd := strings.CutPrefix(t, "endraw")
		if !isEnd {
			continue
		}
		t = strings.TrimLeft(t, " \t\n")
		t, dash := strings.CutPrefix(t, "-")
		t, closed := strings.CutPrefix(t, "%}")
		if !closed {
			continue
		}
		if begin < i {
			l.tokens = append(l.tokens, token{kind: tData, text: l.src[begin:i], at: begin, end: i})
		}
		l.pos = len(l.src) - len(t)
		l.skipNewline()
		return l.pos, dash, true, nil
	}
	return l.pos, false, true, errorAt(start, "{%% raw %%} has no end").token("{%").hint("close it with {%% endraw %%}")
}

// expression lexes up to the closing delimiter. close "" lexes to the end.
func (l *lexer) expression(close string, end kind, start int, escapes bool) (strip bool, err error) {
	depth := 0
	for {
		l.skipSpace()
		rest := l.src[l.pos:]
		if close != "" && depth == 0 {
			n := len(close)
			if strings.HasPrefix(rest, "-"+close) {
				strip, n = true, n+1
			}
			if strip || strings.HasPrefix(rest, close) {
				l.tokens = append(l.tokens, token{kind: end, text: close, at: l.pos, end: l.pos + n})
				l.pos += n
				return strip, nil
			}
		}
		if rest == "" {
			if close == "" {
				l.tokens = append(l.tokens, token{kind: tEOF, at: l.pos, end: l.pos})
				return false, nil
			}
			open := l.src[start : start+2]
			return false, errorAt(start, "this %q has no end", open).token(open).hint("close it with %s", close)
		}
		t, err := l.one(escapes)
		if err != nil {
			return false, err
		}
		if t.kind == tOp {
			switch t.text {
			case "(", "[", "{":
				depth++
			case ")", "]", "}":
				depth--
			}
			if depth < 0 {
				return false, errorAt(t.at, "this %q closes nothing", t.text).token(t.text)
			}
		}
		l.tokens = append(l.tokens, t)
	}
}

func (l *lexer) skipSpace() {
	for l.pos < len(l.src) {
		r, n := utf8.DecodeRuneInString(l.src[l.pos:])
		if !unicode.IsSpace(r) {
			return
		}
		l.pos += n
	}
}

func (l *lexer) one(escapes bool) (token, error) {
	start := l.pos
	rest := l.src[start:]
	r, n := utf8.DecodeRuneInString(rest)
	switch {
	case r == '_' || unicode.IsLetter(r):
		for l.pos < len(l.src) {
			r, n := utf8.DecodeRuneInString(l.src[l.pos:])
			if r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
				break
			}
			l.pos += n
		}
		return token{kind: tName, text: l.src[start:l.pos], at: start, end: l.pos}, nil
	case r >= '0' && r <= '9':
		return l.number()
	case r == '\'' || r == '"':
		return l.str(byte(r), escapes)
	}
	for _, op := range operators {
		if strings.HasPrefix(rest, op) {
			l.pos += len(op)
			return token{kind: tOp, text: op, at: start, end: l.pos}, nil
		}
	}
	e := errorAt(start, "unexpected character %q", r).token(rest[:n])
	if r == '!' || r == '&' {
		e.Hint = "Jinja writes not, and, or"
	}
	return token{}, e
}

func (l *lexer) number() (token, error) {
	start := l.pos
	digits := func(set string) {
		for l.pos < len(l.src) && (strings.IndexByte(set, l.src[l.pos]) >= 0 || l.src[l.pos] == '_') {
			l.pos++
		}
	}
	const decimal = "0123456789"
	if l.src[l.pos] == '0' && l.pos+1 < len(l.src) {
		if i := strings.IndexByte("xXoObB", l.src[l.pos+1]); i >= 0 {
			l.pos += 2
			digits([]string{"0123456789abcdefABCDEF", "01234567", "01"}[i/2])
			v, err := strconv.ParseInt(l.src[start:l.pos], 0, 64)
			if err != nil {
				return token{}, errorAt(start, "%q is not a number that fits 64 bits", l.src[start:l.pos]).token(l.src[start:l.pos])
			}
			return token{kind: tInt, i: v, text: l.src[start:l.pos], at: start, end: l.pos}, nil
		}
	}
	digits(decimal)
	float := false
	if l.pos+1 < len(l.src) && l.src[l.pos] == '.' && strings.IndexByte(decimal, l.src[l.pos+1]) >= 0 {
		float = true
		l.pos++
		digits(decimal)
	}
	if l.pos < len(l.src) && (l.src[l.pos] == 'e' || l.src[l.pos] == 'E') {
		i := l.pos + 1
		if i < len(l.src) && (l.src[i] == '+' || l.src[i] == '-') {
			i++
		}
		if i < len(l.src) && strings.IndexByte(decimal, l.src[i]) >= 0 {
			float = true
			l.pos = i
			digits(decimal)
		}
	}
	text := l.src[start:l.pos]
	clean := strings.ReplaceAll(text, "_", "")
	t := token{text: text, at: start, end: l.pos}
	var err error
	if float {
		t.kind = tFloat
		t.f, err = strconv.ParseFloat(clean, 64)
	} else {
		t.kind = tInt
		t.i, err = strconv.ParseInt(clean, 10, 64)
	}
	if err != nil {
		return token{}, errorAt(start, "%q is not a number that fits 64 bits", text).token(text)
	}
	return t, nil
}

// str lexes a string literal. In {{ }} Ansible doubles every backslash before
// Jinja sees it, so that '\d' needs no second one there; in conditions and
// blocks a backslash escapes as in Python.
func (l *lexer) str(quote byte, escapes bool) (token, error) {
	start := l.pos
	i := start + 1
	for i < len(l.src) && l.src[i] != quote {
		if l.src[i] == '\\' {
			if !escapes && i+1 < len(l.src) && l.src[i+1] == quote {
				return token{}, errorAt(i, "a quote cannot be escaped with a backslash in {{ }}").token(`\`).
					hint("use the other kind of quotes around the string")
			}
			i++
		}
		i++
	}
	if i >= len(l.src) {
		return token{}, errorAt(start, "this string has no end").token(l.src[start:start+1]).hint("close it with %c", quote)
	}
	l.pos = i + 1
	text := l.src[start+1 : i]
	if escapes {
		text = unescape(text)
	}
	return token{kind: tString, text: text, at: start, end: l.pos}, nil
}

// unescape resolves Python's escapes; one that Python does not know stays.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		if j := strings.IndexByte(`\'"abfnrtv`, s[i]); j >= 0 {
			b.WriteByte("\\'\"\a\b\f\n\r\t\v"[j])
			continue
		}
		if s[i] == '\n' {
			continue
		}
		if n := strings.IndexByte("x...u...U", s[i]); n >= 0 && s[i] != '.' {
			width := []int{2, 4, 8}[n/4]
			if i+width < len(s) {
				if v, err := strconv.ParseUint(s[i+1:i+1+width], 16, 32); err == nil && v <= unicode.MaxRune {
					b.WriteRune(rune(v))
					i += width
					continue
				}
			}
		}
		if s[i] >= '0' && s[i] <= '7' {
			j := i
			for j < len(s) && j < i+3 && s[j] >= '0' && s[j] <= '7' {
				j++
			}
			v, _ := strconv.ParseUint(s[i:j], 8, 32)
			b.WriteRune(rune(v))
			i = j - 1
			continue
		}
		b.WriteByte('\\')
		b.WriteByte(s[i])
	}
	return b.String()
}
