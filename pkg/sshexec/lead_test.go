package sshexec

import (
	"bytes"
	"strings"
	"testing"
	"unicode"

	"github.com/fleetd/fleetd/pkg/sshexec/internal/wire"
)

// FuzzLead: whatever a node prints before our shell runs, and however it is cut into
// writes: what is kept of it is bounded, what is shown of it is one line without
// controls, and the marker behind it is found.
func FuzzLead(f *testing.F) {
	for _, said := range []string{
		"", "Loading modules:", "[fleetd-n] password:", "fleetd-n: su\nPassword: ", "fleetd-n ", "fleetd-n 12", "fleetd-n x\n", "fleetd-",
		"\x1b]0;owned\x07\r\nsudo: sorry\n", "$(touch x)`id`\n", strings.Repeat("x", 1<<20), strings.Repeat("fleetd-n ", 1<<17), strings.Repeat("[fleetd-n] password:", 1<<16),
	} {
		for _, method := range []string{"", "sudo", "su"} {
			f.Add(said, method, 7)
			f.Add(said, method, 40_000)
		}
	}
	f.Fuzz(func(t *testing.T, said, method string, step int) {
		var out bytes.Buffer
		l := newLead(wire.Line{Nonce: "n", Method: method, Password: true}, &out, method != "")
		step = min(max(step, 1+len(said)/1000), 64<<10)
		write := func(text string) {
			for text != "" {
				k := min(step, len(text))
				if n, err := l.Write([]byte(text[:k])); n != k || err != nil {
					t.Fatal(n, err)
				}
				if text = text[k:]; len(l.held) > maxLead {
					t.Fatalf("%d bytes are held", len(l.held))
				}
			}
		}
		write(said)
		for _, text := range []string{l.question(), l.text()} {
			if strings.IndexFunc(text, func(r rune) bool { return r != '\t' && unicode.IsControl(r) }) >= 0 {
				t.Fatalf("shown: %q", text)
			}
		}
		if strings.Contains(said, "fleetd-n ") {
			return // a marker of the node's own
		}
		write("\nfleetd-n 4711\nrest")
		if pid := <-l.marked; pid != 4711 || !strings.HasSuffix(out.String(), "rest") {
			t.Fatalf("process %d, then %q", pid, out.String())
		}
	})
}
