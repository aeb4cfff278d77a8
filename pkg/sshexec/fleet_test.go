package sshexec

import (
	"errors"
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

func TestFormatErrors(t *testing.T) {
	var errs []error
	for i := 1; i <= 37; i++ {
		errs = append(errs, wrap(Target{Name: fmt.Sprintf("web%02d", i), User: "centos"}, "run uname",
			&fault{kind: KindAuth, op: "log in as centos", err: errors.New("the host refuses the login"), hint: "check ansible_user"}))
	}
	for i := 1; i <= 2; i++ {
		tg := Target{Name: fmt.Sprintf("db%d", i), Address: fmt.Sprintf("10.0.0.%d", i)}
		errs = append(errs, wrap(tg, "run uname", &fault{kind: KindUnreachable, op: "connect", err: fmt.Errorf("%s refuses connections", tg.HostPort())}))
	}
	errs = append(errs, wrap(Target{Name: "db3"}, "run uname", &fault{kind: KindUnreachable, op: "connect", err: errors.New("no such host")}))
	err := FleetError(errs...)
	const want = `auth failed: 37 hosts: web[01:37]
  cannot log in as centos: the host refuses the login
  next: check ansible_user
unreachable: 3 hosts: db[1:3]
  cannot connect: the host refuses connections (db[1:2])
  cannot connect: no such host (db3)`
	if err.Error() != want {
		t.Errorf("got:\n%s\nwant:\n%s", err, want)
	}
	if KindOf(err) != KindAuth {
		t.Errorf("KindOf sees %v", KindOf(err))
	}
	if err := FleetError(nil, nil); err != nil {
		t.Errorf("no errors give %v", err)
	}
}
