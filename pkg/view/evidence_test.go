package view

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/fleetd/fleetd/pkg/probe"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// seenIn is a run of which the step on the cluster ended with evidence, nil for none.
func seenIn(t *testing.T, e *probe.Evidence, kind rollout.OutcomeKind) *recording {
	t.Helper()
	p := fleet()
	p.Plays = p.Plays[1:]
	p.Digest = ""
	if err := p.Seal(); err != nil {
		t.Fatal(err)
	}
	return record(t, p, nil).play(100, func(id rollout.StepID, s rollout.PlannedStep) rollout.Outcome {
		o := rollout.Outcome{Kind: kind, Message: "the data plane is BPF, proven on 40 nodes"}
		if e == nil {
			return o
		}
		raw, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		return o.Note(probe.Note, string(raw))
	})
}

// allSeen is evidence with everything that there can be.
func allSeen() probe.Evidence {
	dns := probe.Path{Name: "kube-system/kube-dns", Kind: probe.ClusterIP, Protocol: probe.DNSUDP, Address: "10.96.0.10", Port: 53}
	as := func(p probe.Path, change func(*probe.Path)) probe.Path { change(&p); return p }
	web := probe.Path{Name: "shop/web", Kind: probe.Via, Protocol: probe.TCP, Port: 30080}
	return probe.Evidence{
		Interval: 500, Machines: 41, Silent: []string{"worker09 (bash is not installed)"},
		Paths: []probe.Row{
			{Path: dns, Machines: 39, Answered: 39, OK: 4700, Failed: 31, Longest: 2340, LongestFrom: "worker03", Ago: 40_000, Counted: 39, Ruled: 2},
			{Path: as(dns, func(p *probe.Path) { p.Protocol = probe.DNSTCP }), Machines: 39, Answered: 39, OK: 4700, Counted: 39, Stopped: []string{"worker07"}},
			{Path: as(dns, func(p *probe.Path) { p.Protocol = probe.DNSOpen }), Machines: 39, Answered: 39, OK: 4100, Failed: 2, Cut: []string{"worker01", "worker02"}},
			{Path: as(dns, func(p *probe.Path) { p.Kind, p.Address = probe.Pod, "10.244.1.5" }), Machines: 39, Mute: []string{"worker01 (20 of 20 failed before)"}},
			{Path: web, Machines: 39, Answered: 38, OK: 4000, Failed: 200, Longest: 95_000, LongestFrom: "worker01", Lost: []string{"worker01", "worker02"}, Mute: []string{"worker05 (3 of 20 failed before)"}},
			{Path: web, Bastion: true, Machines: 1, Answered: 1, OK: 120},
			{Path: as(web, func(p *probe.Path) { p.Kind = probe.NodePort }), Machines: 39, Answered: 39, OK: 4000, Counted: 39, Ruled: 39, Carried: []string{"worker01"}},
			{Path: probe.Path{Name: "http://203.0.113.7/ip#client", Kind: probe.Given, Protocol: probe.HTTPClient, Address: "203.0.113.7", Port: 80}, Machines: 40, Answered: 40, OK: 4000, Kept: 38, Other: 2},
			{Path: probe.Path{Name: "http://a|b/`<x>[y](z)", Kind: probe.Given, Protocol: probe.HTTP, Address: "a", Port: 80}, Bastion: true, Machines: 1, Answered: 1, OK: 7, Kept: 1},
		},
	}
}

func evidencePage(t *testing.T, rec *recording, asJSON bool) string {
	t.Helper()
	var b bytes.Buffer
	if err := Evidence(&b, runID, rec.stream(), asJSON); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestEvidence(t *testing.T) {
	e := allSeen()
	golden(t, "evidence.md", []byte(evidencePage(t, seenIn(t, &e, rollout.Failed), false)))
	golden(t, "evidence.json", []byte(evidencePage(t, seenIn(t, &e, rollout.Changed), true)))
}

// What the page says in its first line, for those who read no further.
func TestEvidenceVerdict(t *testing.T) {
	only := func(rows ...probe.Row) *probe.Evidence { return &probe.Evidence{Paths: rows} }
	row := probe.Row{Path: probe.Path{Name: "a", Kind: probe.Given, Protocol: probe.TCP}, Machines: 1, Answered: 1, OK: 9}
	gap := row
	gap.Longest, gap.Ago = 1500, 1000
	mute := row
	mute.Answered, mute.Mute = 0, []string{"n1 (9 of 9 failed before)"}
	for want, e := range map[string]*probe.Evidence{
		"done, Services answered all the time":              only(row),
		"done, the longest time without an answer was 1.5s": only(row, gap),
		"done, no evidence of Services":                     only(mute),
		"done":                                              nil,
	} {
		if got, _, _ := strings.Cut(evidencePage(t, seenIn(t, e, rollout.Changed), false), "\n"); got != fmt.Sprintf("# Run %s: %s", runID, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	before := only(mute)
	before.Baseline = true
	for _, e := range []*probe.Evidence{nil, before} {
		text := evidencePage(t, seenIn(t, e, rollout.Changed), false)
		if want := map[bool]string{true: "Nobody asked", false: "before the change only"}[e == nil]; !strings.Contains(text, want) {
			t.Errorf("%s lacks %q", text, want)
		}
	}
}

// Evidence of another version is not guessed at.
func TestEvidenceThatCannotBeRead(t *testing.T) {
	rec := seenIn(t, nil, rollout.Changed)
	last := rec.events[len(rec.events)-2]
	last.Outcome.Notes = map[string]string{probe.Note: `{"paths": 7}`}
	if err := Evidence(&bytes.Buffer{}, runID, rec.stream(), false); err == nil || !strings.Contains(err.Error(), "another version of fleetd") {
		t.Error(err)
	}
}
