package jinja

import (
	"strings"
	"testing"
)

// Templates that are files, by their options.
func TestFile(t *testing.T) {
	scope := Vars{"l": []any{"a", "b"}, "n": int64(3)}
	trim := FileOptions{TrimBlocks: true, Newline: "\n"}
	for _, c := range []struct {
		src  string
		o    FileOptions
		want string
	}{
		{"{% for x in l %}\n{{ x }}\n{% endfor %}\nend\n", trim, "a\nb\nend\n"},
		{"{% for x in l %}\n{{ x }}\n{% endfor %}\nend\n", FileOptions{Newline: "\n"}, "\na\n\nb\n\nend\n"},
		{"x\n  {% if n %}\n  y\n  {% endif %}\nz", trim, "x\n    y\n  z"},
		{"x\n  {% if n %}\n  y\n  {% endif %}\nz", FileOptions{TrimBlocks: true, LstripBlocks: true, Newline: "\n"}, "x\n  y\nz"},
		{"  {%+ if n %}y{% endif %}", FileOptions{LstripBlocks: true, Newline: "\n"}, "  y"},
		{"a\r\nb\rc\n\n", trim, "a\nb\nc\n\n"},
		{"a\nb{{ \"\\n\" }}\n", FileOptions{Newline: "\r\n"}, "a\r\nb\n"}, // one newline is there already
		{`{{ "a\tb" }}{{ '\\' }}`, trim, "a\tb\\"},
		{"{# c #}\n{% raw %}{{ x }}{% endraw %}\n", trim, "{{ x }}\n"},
		{"", trim, ""},
		{"\n", trim, "\n"},
	} {
		f, err := ParseFile(c.src, c.o)
		if err != nil {
			t.Errorf("%q: %v", c.src, err)
			continue
		}
		if got, err := f.Render(scope); err != nil || got != c.want {
			t.Errorf("%q %+v: %q, %v, want %q", c.src, c.o, got, err, c.want)
		}
	}
}

// No file makes the parser fall over, and one without templates stays as it is.
func FuzzFile(f *testing.F) {
	for _, s := range []string{"{% if x %}\n a\n{% endif %}", "{#", "{{ 'x", "a\r\n", "{%- raw -%} {{ {% endraw %}", "\x00\xff"} {
		f.Add(s, true, false)
	}
	f.Fuzz(func(t *testing.T, s string, trim, lstrip bool) {
		tmpl, err := ParseFile(s, FileOptions{TrimBlocks: trim, LstripBlocks: lstrip, Newline: "\n"})
		if err != nil {
			return
		}
		out, err := tmpl.Render(Vars{})
		if err == nil && !MaybeTemplate(s) && !strings.Contains(s, "\r") && out != s {
			t.Errorf("%q became %q", s, out)
		}
	})
}
