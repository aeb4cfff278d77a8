package yaml

import (
	"fmt"
	"strings"

	yaml3 "gopkg.in/yaml.v3"
)

// standIns is data with other characters, as wide as they are, for what yaml.v3
// refuses and libyaml, with which Ansible reads, does not: \/ in double quotes
// and ? within a word in brackets, as in [http://host/?q=1]. A ? at the start of
// a word may begin a key and stays. Restore puts into a node what they stand for.
func standIns(data string) (with string, restore func(*Node)) {
	if !strings.Contains(data, "?") && !strings.Contains(data, `\/`) {
		return data, nil
	}
	mark, slash := unused(data, 0xe000), unused(data, 0xf000)
	var b strings.Builder
	word := 0 // where the word begins that is being read
	for i := 0; i < len(data); i++ {
		c := data[i]
		switch {
		case strings.IndexByte(" \t\r\n,[]{}", c) >= 0:
			b.WriteByte(c)
			word = i + 1
		case c == '\\' && strings.HasPrefix(data[i+1:], "/"):
			b.WriteString(slash + slash)
			i++
		case c == '\\' && i+1 < len(data): // the next may be escaped by it
			b.WriteString(data[i : i+2])
			i++
		case c == '?' && i > word && data[i-1] != ':' && strings.IndexByte("?!&*", data[word]) < 0:
			b.WriteString(mark)
		default:
			b.WriteByte(c)
		}
	}
	quoted := strings.NewReplacer(mark, "?", slash+slash, "/")
	others := strings.NewReplacer(mark, "?", slash+slash, `\/`)
	return b.String(), func(n *Node) {
		if n.Style&yaml3.DoubleQuotedStyle != 0 {
			n.Value = quoted.Replace(n.Value)
		} else {
			n.Value = others.Replace(n.Value)
		}
	}
}

// unused is a character for private use that data has neither as it is nor by
// its number in an escape.
func unused(data string, from rune) string {
	data = strings.ToLower(data)
	for strings.ContainsRune(data, from) || strings.Contains(data, fmt.Sprintf("%x", from)) {
		from++
	}
	return string(from)
}
