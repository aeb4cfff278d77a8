package pyliteral

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
)

func (p *literal) wordOrString() (any, bool) {
	n := text.Span(p.s, p.i, text.Letter)
	switch name := p.s[p.i:n]; name {
	case "True", "False", "None":
		p.i = n
		if p.glued() {
			return nil, false
		}
		if name == "None" {
			return nil, true
		}
		return name == "True", true
	}
	var out strings.Builder
	isBytes := false
	for first := true; ; first = false {
		n := text.Span(p.s, p.i, text.Letter)
		prefix := strings.ToLower(p.s[p.i:n])
		if n >= len(p.s) || (p.s[n] != '\'' && p.s[n] != '"') {
			if first || prefix != "" {
				return nil, false
			}
			break
		}
		raw, bytesHere := false, false
		switch prefix {
		case "", "u":
		case "r":
			raw = true
		case "b":
			bytesHere = true
		case "br", "rb":
			raw, bytesHere = true, true
		default:
			return nil, false
		}
		if !first && bytesHere != isBytes {
			return nil, false
		}
		isBytes = bytesHere
		p.i = n
		if !p.quoted(&out, raw, isBytes) {
			return nil, false
		}
		p.space()
		if p.i >= len(p.s) {
			break
		}
		if c := p.s[p.i]; c != '\'' && c != '"' && !text.Letter(c) {
			break
		}
	}
	if isBytes {
		return value.Binary(out.String()), true
	}
	return out.String(), true
}

// quoted parses one quoted string, p.i at its opening quote.
func (p *literal) quoted(out *strings.Builder, raw, isBytes bool) bool {
	q := p.s[p.i : p.i+1]
	if strings.HasPrefix(p.s[p.i:], q+q+q) {
		q = q + q + q
	}
	p.i += len(q)
	for p.i < len(p.s) {
		if strings.HasPrefix(p.s[p.i:], q) {
			p.i += len(q)
			return true
		}
		c := p.s[p.i]
		if isBytes && c >= utf8.RuneSelf {
			return false
		}
		if c != '\\' {
			out.WriteByte(c)
			p.i++
			continue
		}
		if p.i+1 >= len(p.s) {
			return false
		}
		if raw {
			out.WriteString(p.s[p.i : p.i+2])
			p.i += 2
			continue
		}
		if !p.escape(out, isBytes) {
			return false
		}
	}
	return false
}

func (p *literal) escape(out *strings.Builder, isBytes bool) bool {
	c := p.s[p.i+1]
	if j := strings.IndexByte(`\'"abfnrtv`, c); j >= 0 {
		out.WriteByte("\\'\"\a\b\f\n\r\t\v"[j])
		p.i += 2
		return true
	}
	if c >= '0' && c <= '7' {
		end := p.i + 1
		for end < len(p.s) && end < p.i+4 && p.s[end] >= '0' && p.s[end] <= '7' {
			end++
		}
		n, _ := strconv.ParseUint(p.s[p.i+1:end], 8, 32)
		p.i = end
		writeChar(out, rune(n), isBytes)
		return true
	}
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
	if digits == 0 || (isBytes && c != 'x') {
		if c == 'N' && !isBytes {
			return false // names of characters are not known here
		}
		out.WriteByte('\\') // an unknown escape stays as it is
		p.i++
		return true
	}
	if p.i+2+digits > len(p.s) || !text.All(p.s[p.i+2:p.i+2+digits], text.Hex) {
		return false
	}
	n, _ := strconv.ParseUint(p.s[p.i+2:p.i+2+digits], 16, 32)
	if n > utf8.MaxRune {
		return false
	}
	p.i += 2 + digits
	writeChar(out, rune(n), isBytes)
	return true
}

func writeChar(out *strings.Builder, r rune, isBytes bool) {
	if isBytes {
		out.WriteByte(byte(r))
		return
	}
	out.WriteRune(r)
}
