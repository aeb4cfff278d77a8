package view

import (
	"io"
	"regexp"
	"strings"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// Problems writes hosts with problems, those with the same problem together.
func Problems(w io.Writer, st Style, problems []rollout.HostProblem) {
	for _, c := range causes(problems) {
		indent(w, "  "+st.bold(hostNames(c.hosts))+": ", c.Message)
		c.more(w, "      ")
	}
}

// cause is a problem of hosts for which it is the same.
type cause struct {
	hosts []string
	rollout.Problem
	same bool // to the letter
}

// causes folds problems that are the same but for what each host has of its own, in
// the order in which they come.
func causes(problems []rollout.HostProblem) (out []*cause) {
	at := map[string]*cause{}
	for _, hp := range problems {
		p := hp.Problem
		p.Message, p.Hint = ofOne(hp.Host, p.Message), ofOne(hp.Host, p.Hint)
		// A hint may have the host's address in a command, where its name is not.
		key := ofAny(hp.Host, p.Message) + "\x00\x00" + ofAny(hp.Host, anAddress.ReplaceAllString(p.Hint, "\x00"))
		c, known := at[key]
		if !known {
			c = &cause{Problem: p, same: true}
			at[key], out = c, append(out, c)
		}
		c.same = c.same && c.Message == p.Message && c.Hint == p.Hint
		c.hosts = append(c.hosts, hp.Host)
	}
	return out
}

// more writes what stands below the message: what mends it, and whose words it is.
func (c *cause) more(w io.Writer, pad string) {
	for _, text := range []string{c.Hint, asOf(c.hosts[0], c.same)} {
		if text != "" {
			indent(w, pad, text)
		}
	}
}

// address is one that an error of a connection names behind its host.
var address = regexp.MustCompile(`^: (?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:.]+\])(?::\d+)?`)

// anAddress is one anywhere.
var anAddress = regexp.MustCompile(`\b\d{1,3}(?:\.\d{1,3}){3}\b|\[?[0-9a-fA-F]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]+\]?`)

// own is what differs from host to host: how much room there is, or is wanted, and
// its key.
var own = regexp.MustCompile(`\b\d+ MB\b|\bSHA256:[A-Za-z0-9+/]{43}`)

// ofOne is a text about a host that stands beside its name: it need not say it again.
func ofOne(host, text string) string {
	return strings.NewReplacer(
		"; on "+host+":", "; there:", " on "+host+":", ":", " of "+host+":", ":", "on "+host+":", "there:", "on "+host+",", "there,",
	).Replace(text)
}

// ofAny is a text by which hosts with the same trouble are told from others: without
// the host's own name, the address that stands behind it, sizes and keys.
func ofAny(host, text string) string {
	return withoutName(host, own.ReplaceAllString(text, "\x00"), func(rest string) string { return rest[len(address.FindString(rest)):] })
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
	return "the words are those of " + host + "; the others' differ in names, addresses, sizes and keys alone"
}
