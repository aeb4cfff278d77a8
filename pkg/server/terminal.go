package server

import (
	"html"
	"html/template"
	"strings"
)

// emphasis is how a page shows the emphasis of package view.
var emphasis = map[string]string{"1": "bold", "2": "dim", "1;31": "red", "32": "green", "33": "yellow"}

// terminal is a text with the emphasis of package view as HTML. Everything else,
// other escape sequences included, is text.
func terminal(s string) template.HTML {
	var b strings.Builder
	open := false
	for {
		plain, rest, found := strings.Cut(s, "\x1b[")
		b.WriteString(html.EscapeString(strings.Map(harmless, plain)))
		if !found {
			break
		}
		code, after, ended := strings.Cut(rest, "m")
		class, known := emphasis[code]
		switch {
		case ended && code == "0" && open:
			b.WriteString("</span>")
			open, s = false, after
		case ended && known && !open:
			b.WriteString(`<span class="` + class + `">`)
			open, s = true, after
		default:
			b.WriteString("\uFFFD[")
			s = rest
		}
	}
	if open {
		b.WriteString("</span>")
	}
	return template.HTML(b.String()) //nolint:gosec // all of the text is escaped above
}

// harmless takes control characters out of a text.
func harmless(r rune) rune {
	if r == '\n' || r == '\t' || r >= ' ' && r < 0x7f || r >= 0xa0 {
		return r
	}
	return '\uFFFD'
}
