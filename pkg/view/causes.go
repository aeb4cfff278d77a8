package view

import (
	"regexp"
	"strings"
)

// address is one that an error of a connection names behind its host.
var address = regexp.MustCompile(`^: (?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:.]+\])(?::\d+)?`)

// ofOne is a text about a host that stands beside its name: it need not say it again.
func ofOne(host, text string) string {
	return strings.NewReplacer(
		" on "+host+":", ":", " of "+host+":", ":", "on "+host+":", "there:", "on "+host+",", "there,",
	).Replace(text)
}

// ofAny is a text by which hosts with the same trouble are told from others: without
// the host's own name and the address that stands behind it.
func ofAny(host, text string) string {
	return withoutName(host, text, func(rest string) string { return rest[len(address.FindString(rest)):] })
}

// withoutName is a text with something else in the place of a host's name, where that
// is a word. after, if not nil, is what is left of the text behind it.
func withoutName(host, text string, after func(rest string) string) string {
	var out strings.Builder
	for {
		i := strings.Index(text, host)
		if i < 0 || host == "" {
			out.WriteString(text)
			return out.String()
		}
		before, rest := text[:i], text[i+len(host):]
		if inWord(last(before)) || inWord(first(rest)) {
			out.WriteString(text[:i+len(host)])
			text = rest
			continue
		}
		out.WriteString(before + "\x00")
		if text = rest; after != nil {
			text = after(rest)
		}
	}
}

func inWord(b byte) bool {
	return b == '_' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= 0x80
}

func first(s string) byte {
	if s == "" {
		return 0
	}
	return s[0]
}

func last(s string) byte {
	if s == "" {
		return 0
	}
	return s[len(s)-1]
}

// asOf says whose words stand for those of several hosts, if they are not the same
// to the letter.
func asOf(host string, same bool) string {
	if same {
		return ""
	}
	return "the words are those of " + host + "; the others' differ in name and address alone"
}
