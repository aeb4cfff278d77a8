package words

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
)

// KeyValues reads key=value pairs separated by spaces; quotes and
// template braces keep spaces together. Every value is a string.
func KeyValues(args string) (*value.Map, error) {
	words, err := splitArgs(args)
	if err != nil {
		return nil, err
	}
	out := &value.Map{}
	var raw []string
	for _, orig := range words {
		w := decodeEscapes(orig)
		at := -1
		for i := 1; i < len(w); i++ {
			if w[i] == '=' && w[i-1] != '\\' {
				at = i
				break
			}
		}
		switch {
		case at >= 0:
			out.Set(strings.TrimFunc(w[:at], text.IsSpace), unquote(strings.TrimFunc(w[at+1:], text.IsSpace)))
		case strings.Contains(w, "="):
			raw = append(raw, strings.ReplaceAll(w, `\=`, "="))
		default:
			raw = append(raw, orig)
		}
	}
	if len(raw) > 0 {
		// Ansible keeps words without "=" under this name, without a word.
		out.Set("_raw_params", Join(raw))
	}
	return out, nil
}

// Split is the words of a line as KeyValues sees them, quotes kept; one word where
// a quote is not closed.
func Split(line string) []string {
	words, err := splitArgs(line)
	if err != nil {
		return []string{line}
	}
	return words
}

// Join is a line of such words.
func Join(words []string) string {
	var b strings.Builder
	for _, w := range words {
		if s := b.String(); s != "" && s[len(s)-1] != '\n' {
			b.WriteByte(' ')
		}
		b.WriteString(w)
	}
	return b.String()
}

func unquote(s string) string {
	if len(s) > 1 && s[0] == s[len(s)-1] && (s[0] == '"' || s[0] == '\'') && s[len(s)-2] != '\\' {
		return s[1 : len(s)-1]
	}
	return s
}

// splitArgs splits at spaces and newlines, but not within quotes or {{ }},
// {% %} and {# #}.
func splitArgs(args string) ([]string, error) {
	var params []string
	early := false
	last := func(s string) {
		if len(params) == 0 {
			early = true // blanks before the first word: Ansible stumbles
			return
		}
		params[len(params)-1] += s
	}
	var quote byte
	var depth [3]int
	open := [3]string{"{{", "{%", "{#"}
	closing := [3]string{"}}", "%}", "#}"}
	nested := func() bool { return depth[0]+depth[1]+depth[2] > 0 }
	lines := strings.Split(args, "\n")
	for li, line := range lines {
		tokens := strings.Split(line, " ")
		continued := false
		for ti, token := range tokens {
			if token == "" && ti != 0 {
				last(" ")
				continue
			}
			if token == `\` && quote == 0 {
				continued = true
				continue
			}
			was := quote != 0
			quote = quoteAfter(token, quote)
			appended := false
			switch {
			case quote != 0 && !was && !nested():
				params = append(params, token)
				appended = true
			case nested() || quote != 0 || was:
				switch {
				case ti == 0 && was:
					last(token)
				case len(tokens) > 1:
					if ti > 0 {
						last(" ")
					}
					last(token)
				default:
					last("\n" + token)
				}
				appended = true
			}
			for i := range depth {
				before := depth[i]
				if diff := strings.Count(token, open[i]) - strings.Count(token, closing[i]); diff != 0 {
					depth[i] = max(0, depth[i]+diff)
				}
				if depth[i] != before && !appended {
					params = append(params, token)
					appended = true
				}
			}
			if !nested() && quote == 0 && !appended && token != "" {
				params = append(params, token)
			}
		}
		if len(lines) > 1 && li != len(lines)-1 && !continued {
			last("\n")
		}
	}
	if early {
		return nil, errors.New("they start with blanks")
	}
	if nested() || quote != 0 {
		return nil, errors.New("a quote or a template brace is not closed")
	}
	return params, nil
}

func quoteAfter(token string, quote byte) byte {
	for i := 0; i < len(token); i++ {
		c := token[i]
		if (c == '"' || c == '\'') && (i == 0 || token[i-1] != '\\') {
			switch quote {
			case 0:
				quote = c
			case c:
				quote = 0
			}
		}
	}
	return quote
}

// decodeEscapes replaces backslash escapes as Python's unicode-escape does.
func decodeEscapes(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			i++
			continue
		}
		digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[s[i+1]]
		if digits > 0 && i+2+digits <= len(s) && text.All(s[i+2:i+2+digits], text.Hex) {
			n, _ := strconv.ParseUint(s[i+2:i+2+digits], 16, 32)
			if n <= utf8.MaxRune {
				b.WriteRune(rune(n))
				i += 2 + digits
				continue
			}
		}
		if j := strings.IndexByte(`\'"abfnrtv`, s[i+1]); j >= 0 {
			b.WriteByte("\\'\"\a\b\f\n\r\t\v"[j])
			i += 2
			continue
		}
		b.WriteByte(s[i])
		i++
	}
	return b.String()
}
