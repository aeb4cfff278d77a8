package server

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/compliance"
	"github.com/fleetd/fleetd/pkg/journal"
)

// look is one that fleetd compliance would have written into the journal.
type look struct {
	inventory string
	schedule  string
	at        time.Time
	hosts     map[string]string // and how each stands against the policy "up"
	asked     []string          // of them; nil = all
	kernels   map[string]int
	text      string
}

// recordLook writes a look into the journal: of three hosts if it does not say of which.
func recordLook(t testing.TB, dir string, l look) {
	t.Helper()
	if l.hosts == nil {
		l.hosts = map[string]string{"worker01": "drift", "worker02": "drift", "worker03": "compliant"}
	}
	if l.at.IsZero() {
		l.at = began
	}
	r := compliance.Report{
		At: l.at, Inventories: []string{cmp.Or(l.inventory, "inventory.yaml")}, Playbook: "playbooks/site.yml", PolicyFile: "compliance.yaml",
		Policies: []compliance.Policy{{Name: compliance.PlaybookPolicy, Severity: compliance.High}, {Name: "up", Rule: "uptime", Severity: compliance.Low, Fix: "reboot " + l.text}},
	}
	r.Kernels = l.kernels
	for _, h := range slices.Sorted(maps.Keys(l.hosts)) {
		if l.asked != nil && !slices.Contains(l.asked, h) {
			continue
		}
		host := compliance.Host{Name: h, Findings: []compliance.Finding{{Policy: "up", Rule: "uptime", Status: compliance.Status(l.hosts[h]), Text: cmp.Or(l.text, "uptime is 91 days")}}}
		if l.hosts[h] == "drift" {
			host.Findings = append(host.Findings, compliance.Finding{Policy: compliance.PlaybookPolicy, Rule: "kernel-running", Status: compliance.Drift, Text: "would reboot into 6.1.4"})
		}
		r.Hosts = append(r.Hosts, host)
	}
	about, err := compliance.About(&r)
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	rulings, over := compliance.Rulings(&r, l.asked != nil)
	err = j.Judged(t.Context(), journal.Look{
		Name: journal.NewID(l.at), Fleet: r.Inventories[0], At: l.at, Title: r.Inventories[0], Status: "drift", Hosts: len(r.Hosts), Schedule: l.schedule, About: about,
	}, rulings, over, 1000*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// at is a server whose clock stands still.
func at(t testing.TB, dir string, now time.Time) *Server {
	s := serve(t, dir)
	s.now = func() time.Time { return now }
	return s
}

func TestCompliancePage(t *testing.T) {
	for name, c := range map[string]struct {
		looks       []look
		now         time.Duration // since the first
		wants, nots []string
	}{
		"none": {nil, 0, []string{"No report yet: <code>fleetd compliance INVENTORY</code> writes one."}, []string{"Next"}},
		"one": {[]look{{}}, 3 * time.Hour, []string{
			"Drift: 1 compliant, 2 with drift, 0 not judged (of 3 hosts)", "Looked at <time datetime=\"2026-11-27T02:10:00Z\">2026-11-27 02:10 UTC</time>, 3 hours ago",
			"inventory inventory.yaml, playbook playbooks/site.yml, policies compliance.yaml", "kernel-running", "<dt>worker[01:02] (2 hosts)</dt>", "uptime is 91 days",
			"this report was the first to see it", "Mended by <code>reboot </code>", "What would mend it: <code>fleetd plan inventory.yaml</code>", "fleetd compliance inventory.yaml", `<a href="/compliance">Compliance</a>`,
		}, []string{"This report is old", "worker03"}},
		"old":              {[]look{{}}, 72 * time.Hour, []string{"This report is old", "3 days ago"}, nil},
		"old and in order": {[]look{{hosts: map[string]string{"n1": "compliant"}}}, 72 * time.Hour, []string{`<p class="verdict">Compliant: 1`, "This report is old"}, nil},
		"since":            {[]look{{}, {at: began.Add(72 * time.Hour)}}, 73 * time.Hour, []string{"since 2026-11-27 (3 days)", "1 hour ago"}, []string{"first to see it", "This report is old"}},
		"in order":         {[]look{{hosts: map[string]string{"n1": "compliant"}}}, 0, []string{"Compliant: 1 compliant, 0 with drift"}, []string{"Drift", "fleetd plan"}},
		"not judged":       {[]look{{hosts: map[string]string{"n1": "unknown"}}}, 0, []string{"Not known: 0 compliant", "<dt>n1</dt>"}, []string{"Mended by"}},
		"a part":           {[]look{{}, {at: began.Add(time.Hour), asked: []string{"worker03"}}}, 2 * time.Hour, []string{"2 with drift", "The last report was about 1 of them"}, nil},
		"two fleets":       {[]look{{}, {inventory: "b.yaml", at: began.Add(time.Hour), hosts: map[string]string{"n1": "compliant"}}}, 2 * time.Hour, []string{`href="#fleet-b.yaml"`, `id="fleet-inventory.yaml"`, "Compliant: 1 compliant", "Drift: 1 compliant"}, nil},
		"a clock back":     {[]look{{}}, -time.Hour, []string{"0 minutes ago"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, l := range c.looks {
				recordLook(t, dir, l)
			}
			text := get(t, at(t, dir, began.Add(c.now)), "/compliance").Body.String()
			for _, want := range c.wants {
				if !strings.Contains(text, want) {
					t.Errorf("it does not say %q:\n%s", want, text)
				}
			}
			for _, never := range c.nots {
				if strings.Contains(text, never) {
					t.Errorf("it says %q:\n%s", never, text)
				}
			}
		})
	}
}

// TestComplianceFollows: what is found while the server runs is shown, also where there
// was no journal before.
func TestComplianceFollows(t *testing.T) {
	dir := t.TempDir()
	s := at(t, dir, began.Add(2*time.Hour))
	statuses := func() (out []string) {
		t.Helper()
		w := get(t, s, "/api/v1/compliance")
		var got judgedList
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%d, %v: %s", w.Code, err, w.Body)
		}
		for _, f := range got.Fleets {
			out = append(out, fmt.Sprintf("%s: %s, %v", f.Fleet, f.Last.Status, f.Age))
		}
		return out
	}
	if got := statuses(); got != nil {
		t.Errorf("%q", got)
	}
	recordLook(t, dir, look{})
	if got := statuses(); !slices.Equal(got, []string{"inventory.yaml: drift, 7200"}) {
		t.Errorf("%q", got)
	}
	recordLook(t, dir, look{at: began.Add(time.Hour), hosts: map[string]string{"worker01": "compliant"}})
	if got := statuses(); !slices.Equal(got, []string{"inventory.yaml: compliant, 3600"}) {
		t.Errorf("%q", got)
	}
}

func TestComplianceMetrics(t *testing.T) {
	dir := t.TempDir()
	recordLook(t, dir, look{})
	recordLook(t, dir, look{inventory: "b\xff.yaml", hosts: map[string]string{"n1": "unknown"}})
	text := get(t, at(t, dir, began), "/metrics").Body.String()
	if !regexp.MustCompile(`(?m)^fleetd_journal_bytes [1-9]`).MatchString(text) || !strings.Contains(text, "\nfleetd_journal_free_bytes ") {
		t.Errorf("the size of the journal is not told:\n%s", text)
	}
	for _, want := range []string{
		`fleetd_compliance_hosts{fleet="inventory.yaml",of="inventory inventory.yaml, playbook playbooks/site.yml, policies compliance.yaml",status="drift"} 2`,
		`status="compliant"} 1`, `status="unknown"} 1`, `status="waived"} 0`, `fleetd_compliance_report_timestamp_seconds{fleet="inventory.yaml"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %s:\n%s", want, text)
		}
	}
}
