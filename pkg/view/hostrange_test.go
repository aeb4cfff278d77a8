package view

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestHostRange(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"", ""},
		{"web1", "web1"},
		{"web01 web02 web03", "web[01:03]"},
		{"web1 web2 web10 web9", "web[1:2],web[9:10]"},
		{"web09 web10 web11", "web[09:11]"},
		{"web9 web10 web011 web012", "web[9:10],web[011:012]"},
		{"b a c", "a,b,c"},
		{"10.31.90.4 10.31.90.5 10.31.90.3 10.31.90.2 10.31.90.1 10.31.90.6", "10.31.90.[1:6]"},
		{"a1.example.org a2.example.org", "a[1:2].example.org"},
		{"r1n1 r1n2 r2n1 r2n2", "r1n[1:2],r2n[1:2]"},
		{"r1n7 r2n7 r3n7", "r[1:3]n7"},
		{"web1 web1 web2", "web[1:2]"},
		{"x99999999999999999999 x100000000000000000000", "x99999999999999999999,x100000000000000000000"},
	} {
		if got := HostRange(strings.Fields(tc.in)); got != tc.want {
			t.Errorf("HostRange(%s) = %s, want %s", tc.in, got, tc.want)
		}
	}
}

// expand reads what HostRange writes, as an inventory would.
func expand(t *rapid.T, s string) []string {
	var out []string
	for _, p := range strings.Split(s, ",") {
		open, shut := strings.IndexByte(p, '['), strings.IndexByte(p, ']')
		if open < 0 {
			out = append(out, p)
			continue
		}
		from, to, _ := strings.Cut(p[open+1:shut], ":")
		a, err1 := strconv.Atoi(from)
		b, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil || a >= b {
			t.Fatalf("bad range %s", p)
		}
		for i := a; i <= b; i++ {
			n := strconv.Itoa(i)
			if from[0] == '0' && len(from) > 1 {
				n = fmt.Sprintf("%0*d", len(from), i)
			}
			out = append(out, p[:open]+n+p[shut+1:])
		}
	}
	return out
}

func TestHostRangeNamesEveryHostOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hosts := rapid.SliceOfN(rapid.StringMatching(`[ab](0?[0-9]{1,2})?(-[0-9]{1,2})?(\.x)?`), 1, 30).Draw(t, "hosts")
		got := expand(t, HostRange(hosts))
		want := slices.Clone(hosts)
		slices.Sort(want)
		want = slices.Compact(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("%v became %s", hosts, HostRange(hosts))
		}
	})
}
