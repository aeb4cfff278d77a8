package words

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestQuotedWordsAreReadAgain: by Fields, and by a shell.
func TestQuotedWordsAreReadAgain(t *testing.T) {
	const text = "ab \t\n'\"\\$~#=;|&<>(){}[]*?!%^-`é\x01"
	word := rapid.OneOf(rapid.StringOf(rapid.RuneFrom([]rune(text))), rapid.String().Filter(func(s string) bool { return !strings.ContainsAny(s, "\x00\x02") }))
	var all []string
	for _, r := range text {
		all = append(all, string(r), string(r)+"a", "a"+string(r)+"a")
	}
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(word, 1, 4).Draw(t, "words")
		all = append(all, words...)
		if got, err := Fields(Quote(words...)); err != nil || !slices.Equal(got, words) {
			t.Fatalf("%s is read as %q, %v", Quote(words...), got, err)
		}
	})
	out, err := exec.Command("/bin/sh", "-c", `printf '%s\002' `+Quote(all...)).Output()
	got := strings.Split(strings.TrimSuffix(string(out), "\x02"), "\x02")
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range all {
		if i >= len(got) || got[i] != w {
			t.Fatalf("a shell reads %s as %q", Quote(w), got[min(i, len(got)-1)])
		}
	}
}
