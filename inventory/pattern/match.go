package pattern

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dlclark/regexp2"
)

// nameMatcher compiles a glob, or a regular expression after ~ that must match
// from the start of the name but not to its end. patience bounds what matching
// may take in all, where that can be exponential.
func nameMatcher(p string, patience time.Duration) (func(string) (bool, error), error) {
	switch {
	case p[0] == '~' && backtracks.MatchString(p):
		return backtracking(p, patience)
	case p[0] == '~':
		// \Z is the end of the text for Python, \z for Go.
		re, err := regexp.Compile(`^(?:` + strings.ReplaceAll(p[1:], `\Z`, `\z`) + `)`)
		if err != nil {
			var bad *syntax.Error // its text would show what was put around the pattern
			why := err.Error()
			if errors.As(err, &bad) {
				why = bad.Code.String()
			}
			return nil, wrong(p, why)
		}
		return func(s string) (bool, error) { return re.MatchString(s), nil }, nil
	case !strings.ContainsAny(p, "*?["):
		return func(s string) (bool, error) { return s == p, nil }, nil
	}
	re, err := regexp.Compile(globExpression(p))
	if err != nil {
		return nil, wrong(p, err.Error())
	}
	return func(s string) (bool, error) { return re.MatchString(s), nil }, nil
}

// backtracks finds what Go's own expressions, which take linear time, do not
// have: lookahead, lookbehind and references to groups.
var backtracks = regexp.MustCompile(`\(\?<?[=!]|\(\?P=|\\[1-9]`)

// backtracking compiles an expression that backtracks has found.
func backtracking(p string, patience time.Duration) (func(string) (bool, error), error) {
	expr := pythonOnly.ReplaceAllStringFunc(p[1:], withoutPython)
	re, err := regexp2.Compile(`\A(?:`+expr+`)`, regexp2.None)
	if err != nil {
		why, _, _ := strings.Cut(err.Error(), " in `") // what follows shows what was put around the pattern
		return nil, wrong(p, strings.TrimPrefix(why, "error parsing regexp: "))
	}
	re.MatchTimeout = patience
	var spent time.Duration
	return func(s string) (bool, error) {
		started := time.Now()
		ok, err := re.MatchString(s)
		if spent += time.Since(started); err != nil || spent > patience {
			e := wrong(p, fmt.Sprintf("it takes longer than %v", patience))
			e.Hint = "Repetitions within repetitions take exponential time: write (a+)+ as a+."
			return false, e
		}
		return ok, nil
	}, nil
}

// pythonOnly finds what Python writes in another way than .NET, whose syntax
// regexp2 has; and what only looks so: escapes, of which but one is, and classes.
var pythonOnly = regexp.MustCompile(`\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?P<|\(\?P=\w+\)`)

func withoutPython(s string) string {
	switch {
	case s == `\Z`:
		return `\z`
	case s == `(?P<`:
		return `(?<`
	case strings.HasPrefix(s, `(?P=`):
		return `\k<` + strings.TrimSuffix(s[len(`(?P=`):], ")") + `>`
	}
	return s
}

// globExpression turns a shell glob into a regular expression as Python's
// fnmatch reads it: [ without ] is itself, ! negates, backslash is plain.
func globExpression(p string) string {
	var b strings.Builder
	b.WriteString(`(?s)^`)
	for i := 0; i < len(p); {
		c := p[i]
		i++
		switch c {
		case '*':
			b.WriteString(`.*`)
		case '?':
			b.WriteString(`.`)
		case '[':
			j := i
			if j < len(p) && p[j] == '!' {
				j++
			}
			if j < len(p) && p[j] == ']' {
				j++
			}
			for j < len(p) && p[j] != ']' {
				j++
			}
			if j >= len(p) {
				b.WriteString(`\[`)
				continue
			}
			b.WriteString(globClass(p[i:j]))
			i = j + 1
		default:
			r, n := utf8.DecodeRuneInString(p[i-1:])
			b.WriteString(regexp.QuoteMeta(string(r)))
			i += n - 1
		}
	}
	b.WriteString(`$`)
	return b.String()
}

// globClass writes the inside of [ ] as a class; ranges that run backwards
// hold nothing.
func globClass(s string) string {
	negate := strings.HasPrefix(s, "!")
	s = strings.TrimPrefix(s, "!")
	runes := []rune(s)
	var b strings.Builder
	for i := 0; i < len(runes); i++ {
		lo, hi := runes[i], runes[i]
		if i+2 < len(runes) && runes[i+1] == '-' {
			hi = runes[i+2]
			i += 2
		}
		if lo <= hi {
			fmt.Fprintf(&b, `\x{%x}-\x{%x}`, lo, hi)
		}
	}
	switch {
	case b.Len() == 0 && negate:
		return `.`
	case b.Len() == 0:
		return `[^\x{0}-\x{10FFFF}]`
	case negate:
		return `[^` + b.String() + `]`
	}
	return `[` + b.String() + `]`
}
