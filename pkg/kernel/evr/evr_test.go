package evr

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The answers are those of rpm 4.18's own rpm.vercmp.
var versionTable = []struct {
	a, b string
	want int
}{
	{"6.1.4", "6.1.4", 0}, {"6.1.4", "6.1.10", -1}, {"6.9.7", "6.10.1", -1}, {"5.10", "5.10.0", -1},
	{"1.el7.elrepo", "1.el7", 1}, {"1160.80.1.el7", "1160.el7", 1}, {"427.13.1.el9_4", "427.13.1.el9", 1},
	{"6.1.0~rc1", "6.1.0", -1}, {"6.1.0~rc1", "6.1.0~rc2", -1}, {"6.1.0~rc1", "6.1.0~~", 1},
	{"6.1.0^git1", "6.1.0", 1}, {"6.1.0^git1", "6.1.0.1", -1}, {"6.1.0^git1", "6.1.0^git2", -1}, {"6.1.0^", "6.1.0~", 1},
	{"1.0010", "1.9", 1}, {"1.05", "1.5", 0}, {"2.0.1a", "2.0.1", 1}, {"a", "1", -1}, {"1a", "1.a", 0}, {"1_0", "1.0", 0},
	{"", "1", -1}, {"", "~", 1}, {"", "^", -1}, {"..", "", 0}, {"1.", "1", 0}, {"20231001", "20240101", -1},
	{"99999999999999999999999", "9", 1},
}

func TestCompareVersions(t *testing.T) {
	for _, c := range versionTable {
		if got := CompareVersions(c.a, c.b); got != c.want {
			t.Errorf("CompareVersions(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
		if got := CompareVersions(c.b, c.a); got != -c.want {
			t.Errorf("CompareVersions(%q, %q) = %d, want %d", c.b, c.a, got, -c.want)
		}
	}
}

func versions() *rapid.Generator[string] {
	return rapid.StringMatching(`[0-9a-c.~^_+-]{0,8}`)
}

// TestCompareVersionsIsRPMs asks rpm itself about random versions.
func TestCompareVersionsIsRPMs(t *testing.T) {
	if _, err := exec.LookPath("rpm"); err != nil {
		t.Skip("rpm is not installed here: its order cannot be asked for; the table above was made with it")
	}
	type pair struct{ a, b string }
	var pairs []pair
	for _, c := range versionTable {
		if c.a != "" && c.b != "" { // rpm.vercmp refuses an empty argument
			pairs = append(pairs, pair{c.a, c.b})
		}
	}
	gen := rapid.StringMatching(`[0-9a-c.~^_+]{1,8}`)
	for i := range 4000 {
		pairs = append(pairs, pair{gen.Example(2 * i), gen.Example(2*i + 1)})
	}
	var answers []string
	for batch := range slices.Chunk(pairs, 500) { // a command line has its limit
		var lua strings.Builder
		lua.WriteString("%{lua: ")
		for _, p := range batch {
			fmt.Fprintf(&lua, "print(rpm.vercmp(%q,%q)..' ') ", p.a, p.b)
		}
		lua.WriteString("}")
		out, err := exec.Command("rpm", "--eval", lua.String()).Output()
		if err != nil {
			t.Fatalf("rpm --eval: %v", err)
		}
		answers = append(answers, strings.Fields(string(out))...)
	}
	if len(answers) != len(pairs) {
		t.Fatalf("rpm gave %d answers to %d questions", len(answers), len(pairs))
	}
	for i, p := range pairs {
		if got := fmt.Sprint(CompareVersions(p.a, p.b)); got != answers[i] {
			t.Errorf("CompareVersions(%q, %q) = %s, rpm says %s", p.a, p.b, got, answers[i])
		}
	}
}

// TestCompareVersionsIsAnOrder: sorting relies on it.
func TestCompareVersionsIsAnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := versions().Draw(t, "a"), versions().Draw(t, "b")
		if CompareVersions(a, a) != 0 {
			t.Fatalf("%q is not equal to itself", a)
		}
		if CompareVersions(a, b) != -CompareVersions(b, a) {
			t.Fatalf("%q and %q: not antisymmetric", a, b)
		}
		if CompareVersions(a, a+"~x") != 1 {
			t.Fatalf("%q is not newer than its own pre-release", a)
		}
	})
}

func TestCompareRelease(t *testing.T) {
	for _, c := range []struct {
		release, minimum string
		want             int
	}{
		{"6.1.4-1.el7.elrepo.x86_64", "5.10", 1},
		{"5.10.262-1.el7.x86_64", "5.10", 1},
		{"5.10-1.el8.elrepo.x86_64", "5.10", 0},
		{"5.9.16-1.el7.elrepo.x86_64", "5.10", -1},
		{"3.10.0-1160.80.1.el7.x86_64", "5.8", -1},
		{"4.18.0-305.el8.x86_64", "4.18.0-305", 0},
		{"4.18.0-305.3.1.el8.x86_64", "4.18.0-305", 0},
		{"4.18.0-193.el8.x86_64", "4.18.0-305", -1},
		{"4.18.0-553.el8_10.x86_64", "4.18.0-305", 1},
		{"4.18.0-3050.el8.x86_64", "4.18.0-305", 1},
		{"6.1.4-1.el7.elrepo.x86_64", "6.1.4-1.el7.elrepo", 0},
		{"6.1.4-1.el7.elrepo.x86_64", "6.1.4", 0},
	} {
		got, err := CompareRelease(c.release, c.minimum)
		if err != nil || got != c.want {
			t.Errorf("CompareRelease(%q, %q) = %d, %v; want %d", c.release, c.minimum, got, err, c.want)
		}
	}
	for _, bad := range []string{"", "newest", "5.10 ", "x:5", "5.10-"} {
		if _, err := CompareRelease("6.1.4-1.x86_64", bad); err == nil {
			t.Errorf("CompareRelease took %q", bad)
		}
	}
}
