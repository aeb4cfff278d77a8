package sshexec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
	"pgregory.net/rapid"
)

// FuzzLines: however a stream is cut into writes, the same lines come out,
// each printable and bounded, and nothing of plain text is lost.
func FuzzLines(f *testing.F) {
	for _, s := range []string{
		"", "\n", "a", "a\n", "a\nb", "a\r\nb\r\n", "10%\r20%\r100%\ndone", "\x1b[31mred\x1b[0m\n", "\x1b]0;title\x07x", "\x1b]0;no end\nx",
		"\x1b", "\x1b[", "\x1b[3", "\xff\xfe\n", "é\n", "\xc3", "a\x00b", "\u009b31m", "\u202eabc", strings.Repeat("x", maxLine) + "\n",
		strings.Repeat("é", maxLine), strings.Repeat("\xff", maxLine+5), "\x1bP\x1b\\", "\x1b(B", "a\rb\rc\r",
	} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, data []byte, step int) {
		lines := func(step int) (out []string) {
			s := lineSplitter{emit: func(l string) { out = append(out, l) }}
			for b := data; len(b) > 0; {
				k := min(max(step, 1), len(b))
				s.write(b[:k])
				b = b[k:]
			}
			s.flush()
			return out
		}
		whole := lines(len(data))
		// A piece of an over-long line depends on nothing but the stream.
		if got := lines(step); fmt.Sprint(got) != fmt.Sprint(whole) {
			t.Fatalf("in steps of %d: %q, at once: %q", step, got, whole)
		}
		for _, l := range whole {
			if !utf8.ValidString(l) {
				t.Fatalf("not UTF-8: %q", l)
			}
			if len(l) > 6*maxLine {
				t.Fatalf("line of %d bytes", len(l))
			}
			for _, r := range l {
				if unicode.IsControl(r) && r != '\t' {
					t.Fatalf("control character in %q", l)
				}
			}
		}
		if Printable(string(data)) == string(data) && len(data) < maxLine {
			want := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
			if len(data) == 0 {
				want = nil
			}
			if fmt.Sprint(whole) != fmt.Sprint(want) {
				t.Fatalf("got %q, want %q", whole, want)
			}
		}
	})
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain\ttext":                  "plain\ttext",
		"\x1b[1;31mred\x1b[0m":         "red",
		"\x1b]0;evil title\x07after":   "after",
		"\x1b]8;;http://x\x1b\\link":   "link",
		"\x1b[2Jcleared":               "cleared",
		"10%\r 50%\r100%":              "100%",
		"a\r\nb":                       "a\nb",
		"bell\x07 nul\x00 del\x7f":     `bell\x07 nul\x00 del\x7f`,
		"bad \xff\xfe utf8":            "bad \ufffd\ufffd utf8",
		"csi as one char \u009b31m":    `csi as one char \u009b31m`,
		"reorder \u202eabc\u2066":      `reorder \u202eabc\u2066`,
		"charset \x1b(B and save\x1b7": "charset  and save",
		"кириллица 漢字":                 "кириллица 漢字",
	} {
		if got := Printable(in); got != want {
			t.Errorf("Printable(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestCaptureKeepsBothEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(2, 40).Draw(t, "limit")
		var all []byte
		c := newCapture(limit)
		for _, w := range rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 0, 60)).Draw(t, "writes") {
			all = append(all, w...)
			if n, err := c.Write(w); n != len(w) || err != nil {
				t.Fatal(n, err)
			}
		}
		got, truncated := c.end()
		half := limit / 2
		want := all
		if cut := len(all) - 2*half; cut > 0 {
			want = append(append(append([]byte(nil), all[:half]...), fmt.Sprintf("\n[... %d bytes left out ...]\n", cut)...), all[len(all)-half:]...)
		}
		if !bytes.Equal(got, want) || truncated != (len(all) > 2*half) {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}

func TestSecretIsNeverPrinted(t *testing.T) {
	target := Target{Name: "web1", Password: "hunter2", Become: Become{Password: "hunter2"}}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", target.Password, "target", target)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", target.Password, "target", target)
	j, err := json.Marshal(target)
	if err != nil {
		t.Fatal(err)
	}
	y, err := yaml.Marshal(target)
	if err != nil {
		t.Fatal(err)
	}
	all := log.String() + string(j) + string(y)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
		all += fmt.Sprintf(verb, target) + fmt.Sprintf(verb, target.Password) + fmt.Sprintf(verb, &target) + fmt.Sprintf(verb, target.Become)
	}
	if strings.Contains(all, "hunter2") || strings.Contains(strings.ToLower(all), "68756e74657232") {
		t.Errorf("a secret is printed:\n%s", all)
	}
	if target.key() == (Target{Name: "web1", Password: "hunter3"}).key() {
		t.Error("another password gives the same connection")
	}
	if strings.Contains(target.key(), "hunter2") {
		t.Error("the key of the pool holds the password")
	}
}
