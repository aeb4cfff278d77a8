package text

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestErrorf(t *testing.T) {
	s := &Source{Name: "group_vars/all.yml", Data: "a: 1\n\tb\u00e9 \x1b[31m: [\r\nc"}
	for _, c := range []struct {
		line, column int
		want         string
	}{
		{2, 5, "group_vars/all.yml:2:5: wrong\n    \tbé \uFFFD[31m: [\n    \t   ^\nhelp"},
		{2, 0, "group_vars/all.yml:2: wrong\n    \tbé \uFFFD[31m: [\nhelp"},
		{9, 1, "group_vars/all.yml:9:1: wrong\nhelp"},
		{0, 0, "group_vars/all.yml: wrong\nhelp"},
	} {
		if got := s.Errorf(c.line, c.column, "help", "wrong").Error(); got != c.want {
			t.Errorf("%d:%d:\n%s\nwant\n%s", c.line, c.column, got, c.want)
		}
	}
	s.Secret = true
	if got := s.Errorf(2, 5, "", "no %s", s.Clip("hush")).Error(); got != "group_vars/all.yml:2:5: no ***" {
		t.Errorf("a secret's error is %s", got)
	}
}

// TestExcerpt: whatever the line and wherever the column, the quoted line is
// short and the caret stands below the character that is meant.
func TestExcerpt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		line := strings.Repeat(rapid.StringMatching(`[a-zé\t ]{0,40}`).Draw(t, "text"), rapid.IntRange(0, 50).Draw(t, "times"))
		column := rapid.IntRange(1, utf8.RuneCountInString(line)+1).Draw(t, "column")
		e := (&Source{Data: line}).Errorf(1, column, "", "x")
		shown := []rune(e.Text)
		if len(shown) > shownChars+2 {
			t.Fatalf("%d characters are shown", len(shown))
		}
		if line == "" {
			return
		}
		if e.Caret < 0 || e.Caret > len(shown) {
			t.Fatalf("the caret is at %d of %d", e.Caret, len(shown))
		}
		if column <= utf8.RuneCountInString(line) && shown[e.Caret] != []rune(line)[column-1] {
			t.Fatalf("column %d of %q: the caret stands below %q in %q", column, line, shown[e.Caret], e.Text)
		}
	})
}

func TestOffset(t *testing.T) {
	s := &Source{Name: "x", Data: "é\nab\xffc"}
	if line, column := s.Offset(6); line != 2 || column != 4 {
		t.Errorf("%d:%d", line, column)
	}
	var e *Error
	if !errors.As(s.CheckUTF8(), &e) || e.Place.String() != "x:2:3" {
		t.Errorf("got %v", s.CheckUTF8())
	}
}

func TestLocate(t *testing.T) {
	s := &Source{Name: "x", Data: "one\ntwo\n"}
	err := s.Locate(2, 1, Advise("Do that.", "it is wrong"))
	if err.Error() != "x:2:1: it is wrong\n    two\n    ^\nDo that." {
		t.Errorf("got %v", err)
	}
	if again := s.Locate(1, 1, err); !errors.Is(again, err) {
		t.Errorf("an error with a place got another: %v", again)
	}
}
