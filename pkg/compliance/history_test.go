package compliance

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// TestRemembered: whatever was found, a report that is remembered counts its hosts and
// folds them as the one that was written.
func TestRemembered(t *testing.T) {
	at := time.Date(2026, 11, 27, 6, 0, 0, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		r := Report{At: at, Status: Compliant, Inventories: []string{"hosts"}, Policies: []Policy{
			{Name: PlaybookPolicy, Severity: High}, {Name: "up", Rule: "uptime", Severity: Low, Fix: "reboot"},
		}}
		for i := range rapid.IntRange(0, 8).Draw(t, "hosts") {
			h := Host{Name: fmt.Sprint("n", i), Status: Compliant}
			for _, f := range [][2]string{{PlaybookPolicy, "kernel"}, {PlaybookPolicy, "reboot"}, {"up", "uptime"}} {
				s := rapid.SampledFrom([]Status{Compliant, Waived, Unknown, Drift, ""}).Draw(t, f[1])
				if s == "" { // not asked
					continue
				}
				h.Findings = append(h.Findings, Finding{Policy: f[0], Rule: f[1], Status: s, Text: string(s)})
				h.Status = worse(h.Status, s)
			}
			if rapid.Bool().Draw(t, "unread") || len(h.Findings) == 0 {
				h.Problem, h.Status = &rollout.Problem{Message: "no answer"}, worse(h.Status, Unknown)
			}
			r.Status = worse(r.Status, h.Status)
			r.Hosts = append(r.Hosts, h)
		}
		about, err := About(&r)
		if err != nil {
			t.Fatal(err)
		}
		rulings, _ := Rulings(&r, false)
		got, err := Remembered(about, rulings)
		if err != nil {
			t.Fatal(err)
		}
		if got.Status != r.Status || len(got.Hosts) != len(r.Hosts) || got.Policy("up") != r.Policy("up") {
			t.Fatalf("%+v\nwas %+v", got, r)
		}
		for _, s := range []Status{Compliant, Waived, Unknown, Drift} {
			if got.Count(s) != r.Count(s) {
				t.Errorf("%s: %d, was %d", s, got.Count(s), r.Count(s))
			}
		}
		was, is := Fold(&r), Fold(got)
		if len(was) != len(is) {
			t.Fatalf("%+v\nwas %+v", is, was)
		}
		for i := range was {
			if was[i].Hosts() != is[i].Hosts() || was[i].Status != is[i].Status {
				t.Errorf("%+v, was %+v", is[i], was[i])
			}
		}
	})
}
