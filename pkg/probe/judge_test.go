package probe

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var dns = Path{Name: "kube-system/kube-dns", Kind: ClusterIP, Protocol: DNSUDP, Address: "10.96.0.10", Port: 53}

func drawSeen(t *rapid.T) Seen {
	count := rapid.Int64Range(0, 50)
	s := Seen{
		OKBefore: count.Draw(t, "ok before"), FailedBefore: rapid.SampledFrom([]int64{0, 0, 0, 1, 30}).Draw(t, "failed before"),
		OK: count.Draw(t, "ok"), Failed: count.Draw(t, "failed"), Bad: rapid.Int64Range(0, 5).Draw(t, "bad"),
		Longest: time.Duration(count.Draw(t, "longest")) * time.Second, Stopped: rapid.IntRange(0, 9).Draw(t, "stopped") == 0,
		Ruled: rapid.Bool().Draw(t, "ruled"),
	}
	s.Carried = s.Ruled && rapid.Bool().Draw(t, "carried")
	s.Path = dns
	s.Protocol = rapid.SampledFrom([]Protocol{DNSUDP, DNSOpen, TCP}).Draw(t, "protocol")
	return s
}

// Whatever machines report: each is counted once and named where it belongs; what did
// not answer before is never lost, is no gap and no answer; a path that answered and
// does not is always told; and the order of the reports does not matter.
func TestJudge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var reports []Report
		for i := range rapid.IntRange(1, 6).Draw(t, "machines") {
			r := Report{From: fmt.Sprintf("n%d", i), Rules: rapid.SampledFrom([]Rules{Counted, Uncounted, Unread}).Draw(t, "rules")}
			if rapid.IntRange(0, 4).Draw(t, "silent") == 0 {
				r.Silent = "it cannot be asked"
			} else {
				r.Seen = []Seen{drawSeen(t)}
			}
			reports = append(reports, r)
		}
		e := Judge(reports, "n0", nil, false)
		shuffled := rapid.Permutation(reports).Draw(t, "order")
		if d := cmp.Diff(e, Judge(shuffled, "n0", nil, false)); d != "" {
			t.Fatalf("the order matters: %s", d)
		}
		machines, silent := 0, 0
		for _, r := range reports {
			if r.Silent != "" {
				silent++
				continue
			}
			s := r.Seen[0]
			i := slices.IndexFunc(e.Paths, func(row Row) bool { return row.Protocol == s.Protocol && row.Bastion == (r.From == "n0") })
			if i < 0 {
				t.Fatalf("%s is in no row of %#v", r.From, e)
			}
			row := e.Paths[i]
			solid := s.OKBefore > 0 && s.OKBefore >= 9*s.FailedBefore && (s.FailedBefore == 0 || !s.Protocol.Open())
			if solid == slices.ContainsFunc(row.Mute, func(m string) bool { return strings.HasPrefix(m, r.From+" ") }) {
				t.Errorf("%+v is mute: %v, want %v", s, !solid, row.Mute)
			}
			lost := solid && !s.Stopped && !s.Protocol.Open() && s.Bad >= lostAfter
			if lost != slices.Contains(row.Lost, r.From) {
				t.Errorf("%+v lost: %v", s, row.Lost)
			}
			if carried := solid && s.Carried && r.Rules == Counted; carried != slices.Contains(row.Carried, r.From) {
				t.Errorf("%+v carried: %v", s, row.Carried)
			}
			if solid && s.Longest > row.Longest.Duration() {
				t.Errorf("%+v: the longest is %s", s, row.Longest)
			}
		}
		for _, row := range e.Paths {
			machines += row.Machines
			if row.Answered+len(row.Mute) != row.Machines {
				t.Errorf("%+v: some are neither", row)
			}
			if row.Answered == 0 && (row.OK+row.Failed > 0 || row.Longest > 0 || len(row.Lost) > 0) {
				t.Errorf("no evidence, and it is told: %#v", row)
			}
		}
		if machines+silent != len(reports) || len(e.Silent) != silent {
			t.Errorf("%d rows and %d silent of %d", machines, silent, len(reports))
		}
	})
}

// A pod that is gone is no fault of the data plane's.
func TestPodThatIsGone(t *testing.T) {
	p := Path{Name: "kube-system/kube-dns", Kind: Pod, Protocol: DNSUDP, Address: "10.244.1.5", Port: 53}
	r := []Report{{From: "n1", Seen: []Seen{{Path: p, OKBefore: 20, Bad: 9, Failed: 9}}}}
	if e := Judge(r, "", nil, false); len(e.Lost()) != 1 {
		t.Errorf("%+v", e)
	}
	if e := Judge(r, "", map[string]bool{"10.244.1.5": true}, false); len(e.Lost()) != 0 || !strings.Contains(e.Paths[0].Mute[0], "the pod is gone") {
		t.Errorf("%+v", e)
	}
}

// Before anything is changed, what answers now is what counts.
func TestBaseline(t *testing.T) {
	r := []Report{
		{From: "n1", Seen: []Seen{{Path: dns, OK: 20}}},
		{From: "n2", Seen: []Seen{{Path: dns, Failed: 20, Bad: 20}}},
	}
	e := Judge(r, "", nil, true)
	if len(e.Lost()) > 0 || e.Answering() != 1 || len(e.Mute()) != 0 || e.Paths[0].Answered != 1 {
		t.Errorf("%+v", e)
	}
	if e = Judge(r[1:], "", nil, true); e.Answering() != 0 || len(e.Mute()) != 1 {
		t.Errorf("%+v", e)
	}
}

func TestGiven(t *testing.T) {
	for text, want := range map[string]string{
		"http://shop.example.org/health":       "http shop.example.org 80 http://shop.example.org/health, http-open shop.example.org 80 http://shop.example.org/health",
		"http://192.0.2.1:8080/ip#client":      "http-client 192.0.2.1 8080 http://192.0.2.1:8080/ip, http-open 192.0.2.1 8080 http://192.0.2.1:8080/ip",
		"https://[2001:db8::1]/":               "https 2001:db8::1 443 https://[2001:db8::1]/",
		"tcp://db.example.org:5432":            "tcp db.example.org 5432 -",
		"dns://10.96.0.10":                     "dns-udp 10.96.0.10 53 -, dns-tcp 10.96.0.10 53 -, dns-open 10.96.0.10 53 -",
		"tcp://db.example.org":                 "",
		"tcp://db.example.org:99999":           "",
		"ftp://example.org":                    "",
		"http://user:secret@example.org/":      "",
		"http://a;b/":                          "",
		"http://$(reboot)/":                    "",
		"tcp://db.example.org:5432#client":     "",
		"http://example.org/a b":               "",
		"shop.example.org":                     "",
		"":                                     "",
		"http://example.org/\nGiven tcp x 1 -": "",
	} {
		paths, err := OfGiven([]string{text})
		var got []string
		for _, p := range paths {
			words := strings.Fields(p.line())
			if len(words) != 6 || words[0] != "Given" {
				t.Fatalf("%q", p.line())
			}
			got = append(got, strings.Join(words[1:5], " "))
		}
		if strings.Join(got, ", ") != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
		if err != nil && !strings.Contains(err.Error(), "tcp://HOST:PORT") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// What is not known is said.
func TestText(t *testing.T) {
	seen := Seen{Path: dns, OKBefore: 20, OK: 20}
	gap, stopped, mute := seen, seen, seen
	gap.Failed, gap.Longest, gap.Protocol = 3, 2340*time.Millisecond, DNSTCP
	stopped.Stopped, mute.OKBefore = true, 0
	for want, reports := range map[string][]Report{
		"paths to Services asked: 1, no gap": {{From: "n1", Seen: []Seen{seen}}},
		"paths to Services asked: 2, the longest gap 2.34s (ClusterIP kube-system/kube-dns 10.96.0.10:53 (dns-tcp), from n1); nothing is known of n2 (it cannot be asked)": {
			{From: "n1", Seen: []Seen{seen, gap}}, {From: "n2", Silent: "it cannot be asked"},
		},
		"paths to Services asked: 0, no gap, and 1 of which nothing is known: nobody asks any more (was fleetd away for longer than their lease?)": {{From: "n1", Seen: []Seen{stopped}}},
		"no evidence of Services: no path to one answered before":                                                                                  {{From: "n1", Seen: []Seen{mute}}},
	} {
		if got := Judge(reports, "", nil, false).Text(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestGivenIsBounded(t *testing.T) {
	all := slices.Repeat([]string{"tcp://db.example.org:1"}, mostGiven+1)
	if _, err := OfGiven(all); err == nil || !strings.Contains(err.Error(), "at most 20") {
		t.Error(err)
	}
	if paths, err := OfGiven(all[1:]); err != nil || len(paths) != mostGiven {
		t.Errorf("%d, %v", len(paths), err)
	}
}

// Many machines ask more seldom.
func TestIntervalAndLease(t *testing.T) {
	for machines, want := range map[int]time.Duration{1: 500 * time.Millisecond, 50: 500 * time.Millisecond, 300: 3 * time.Second} {
		if got := Interval(machines); got != want {
			t.Errorf("%d: %s", machines, got)
		}
	}
	if Lease(300) != 6*time.Hour {
		t.Error(Lease(300))
	}
}

// What a machine prints is taken apart without trust: no count is negative, no path
// is of a kind that there is not, and the same again says the same.
func FuzzParse(f *testing.F) {
	f.Add("at 1199090 0.5\npath 0 ClusterIP dns-udp 10.96.0.10 53 - kube-system/kube-dns\nbefore 0 5 1 8 0 0 0 0 1198820 1198820 unseen\nmet 0 12\nstill 0 15\nstate 0 5 1 11 0 0 0 0 1200340 1200340 unseen\n")
	f.Add("none\n")
	f.Add("missing bash\n")
	f.Add("at 10 0.5\nover\nnft\npath 63 Given http-client h 1 http://h/ http://h/#client\nstate 63 1 0 0 9 9999999999999 -3 7 2 3 kept\n")
	f.Add("path -1 Given tcp h 1 - n\npath 64 Given tcp h 1 - n\nstate 0\nstate x 1 2 3 4 5 6 7 8 9 k\n")
	f.Fuzz(func(t *testing.T, out string) {
		r := Parse("n1", out)
		if r.Silent == "" && len(r.Seen) == 0 && !strings.Contains(out, "at") || len(r.Seen) > mostPaths {
			t.Errorf("%+v", r)
		}
		for _, s := range r.Seen {
			if !slices.Contains(kinds, s.Kind) || !slices.Contains(protocols, s.Protocol) || s.Port < 1 || s.Port > 65535 ||
				min(s.OKBefore, s.FailedBefore, s.OK, s.Failed, s.Bad, int64(s.Longest), int64(s.Ago)) < 0 {
				t.Errorf("%+v", s)
			}
		}
		if d := cmp.Diff(Judge([]Report{r}, "", nil, false), Judge([]Report{Parse("n1", out)}, "", nil, false)); d != "" {
			t.Error(d)
		}
	})
}
