package text

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// FuzzPrintable: whatever a node prints, nothing of it drives a terminal, and plain
// text stays as it is.
func FuzzPrintable(f *testing.F) {
	for _, s := range []string{
		"", "\n", "a\nb", "a\r\nb\r\n", "10%\r20%\r100%\ndone", "\x1b[31mred\x1b[0m\n", "\x1b]0;title\x07x", "\x1b]0;no end\nx",
		"\x1b", "\x1b[", "\x1b[3", "\xff\xfe\n", "\xc3", "a\x00b", "\u009b31m", "\u202eabc", "\x1bP\x1b\\", "\x1b(B", "a\rb\rc\r",
		"\x1b\x1b[[31m", strings.Repeat("\x1b", 1<<20), "$(touch x)", strings.Repeat("é", 1<<19),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Printable(s)
		if !utf8.ValidString(got) {
			t.Fatalf("not UTF-8: %q", got)
		}
		if i := strings.IndexFunc(got, func(r rune) bool { return r != '\n' && r != '\t' && unicode.IsControl(r) || isUnsafe(r) }); i >= 0 {
			t.Fatalf("control character in %q", got)
		}
		if again := Printable(got); again != got {
			t.Fatalf("%q becomes %q", got, again)
		}
		if utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' || isUnsafe(r) }) < 0 && got != s {
			t.Fatalf("plain text %q becomes %q", s, got)
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
