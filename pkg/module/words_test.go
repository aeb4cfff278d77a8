package module_test

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/fleetd/fleetd/pkg/module"
	"github.com/fleetd/fleetd/pkg/rollout"
)

var environment = map[string]string{"WORDS": "two  words", "EMPTY": "", "STAR": "*"}

var variable = regexp.MustCompile(`\$(?:([A-Za-z0-9_]+)|\{([A-Za-z0-9_]+)\})`)

// expanded is what Python's os.path.expandvars and expanduser make of a word.
func expanded(w, home string) string {
	if w == "~" || strings.HasPrefix(w, "~/") {
		w = home + w[1:]
	}
	return variable.ReplaceAllStringFunc(w, func(v string) string {
		if s, set := environment[strings.Trim(v, "${}")]; set {
			return s
		}
		return v
	})
}

// Every word of argv reaches the program as it is, but for the variables that are
// set and a ~ in front; whatever a shell would make of it.
func TestWordsReachTheProgram(t *testing.T) {
	dir := t.TempDir()
	m := module.Modules(local{dir})["ansible.builtin.command"]
	piece := rapid.OneOf(
		rapid.SampledFrom([]string{
			"$WORDS", "${WORDS}", "$EMPTY", "${STAR}", "$NO_SUCH", "${NO_SUCH}", "$1", "$$", "${", "}", "$(id)", "`id`", "~", "~/", "*", "?", "[a-z]", "'", `"`, `\`, " ", "\n", "\t", "#", "-", "!", ";", "&", "|", "<", ">", "{a,b}", "=", "%s", "\r", "é", "日本",
		}),
		rapid.StringMatching(`[ -~]{0,6}`),
		rapid.StringN(0, 4, -1),
	)
	word := rapid.Map(rapid.SliceOfN(piece, 0, 5), func(p []string) string {
		return strings.ReplaceAll(strings.ToValidUTF8(strings.Join(p, ""), ""), "\x00", "")
	})
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(word, 1, 8).Draw(t, "words")
		argv, want := []any{"printf", `%s\0`}, ""
		for _, w := range words {
			argv = append(argv, w)
			want += expanded(w, filepath.Join(dir, "home")) + "\x00"
		}
		change, _, err := m.Diff("a", nil, rollout.Args{"argv": argv, "strip_empty_ends": false})
		if err != nil {
			t.Fatal(err)
		}
		o := m.Do(t.Context(), rollout.Step{Host: "a", Change: change, Attempt: 1, SoFar: map[string]string{"began": "1"}})
		var got struct{ Stdout string }
		if err := json.Unmarshal(o.Result, &got); err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
		if got.Stdout != want {
			t.Errorf("%q\nwant %q", got.Stdout, want)
		}
	})
}
