package compliance

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"

	"github.com/fleetd/fleetd/pkg/rollout"
)

var update = flag.Bool("update", false, "write testdata anew; read the diff before you commit it")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-want +got), -update writes it anew:\n%s", name, d)
	}
}

// hostile is what no name and no node should say, and one day will.
const hostile = "n\"><script>alert(1)</script>\x1b[2J\x00|`{{x}}\\\n]]>&\u202e"

// sample is a report with all there is in one. pkg/view shows the same one, from
// testdata/report.json.
func sample() *Report {
	now := time.Date(2026, 11, 27, 6, 0, 0, 0, time.UTC)
	ago := func(days int) *time.Time { t := now.AddDate(0, 0, -days); return &t }
	r := &Report{
		Schema: Schema, At: now, Inventories: []string{"prod/hosts.yaml"}, Playbook: "playbooks/site.yml", PolicyFile: "prod/compliance.yaml", Status: Drift,
		Policies: []Policy{
			{Name: PlaybookPolicy, Severity: High},
			{Name: "kernels are of our mirror", Rule: "kernel-origin", Severity: High, Fix: "fleetd apply prod/hosts.yaml", At: rollout.Position{File: "prod/compliance.yaml", Line: 3, Column: 5}},
			{Name: "rebooted every quarter", Rule: "uptime", Severity: Low, At: rollout.Position{File: "prod/compliance.yaml", Line: 8, Column: 5}},
			{Name: "no foreign modules", Rule: "kernel-modules-absent", Severity: Medium, At: rollout.Position{File: "prod/compliance.yaml", Line: 12, Column: 5}},
		},
		Notes: []string{`prod/compliance.yaml:20:5: the waiver of ada@example.org for "no foreign modules" expires on 2026-12-01`},
	}
	for i := range 60 {
		h := Host{Name: fmt.Sprintf("worker%02d", i+1), Status: Compliant, Findings: []Finding{
			{Policy: PlaybookPolicy, Rule: "kernel-running", Status: Compliant, Text: "runs 6.1.4-1.el8.elrepo.x86_64"},
			{Policy: "kernels are of our mirror", Rule: "kernel-origin", Status: Compliant, Text: "kernel-ml is of The ELRepo Project"},
			{Policy: "rebooted every quarter", Rule: "uptime", Status: Compliant, Text: "up for 12 days"},
			{Policy: "no foreign modules", Rule: "kernel-modules-absent", Status: Compliant, Text: "has loaded none of nvidia*"},
		}}
		f := h.Findings
		if i < 40 {
			f[0] = Finding{Policy: PlaybookPolicy, Rule: "kernel-running", Status: Drift, Text: "would reboot into 6.1.4-1.el8.elrepo.x86_64, on trial", Since: ago(3),
				Fields: []Difference{{"running kernel", "4.18.0-553.el8_10.x86_64", "6.1.4-1.el8.elrepo.x86_64"}}}
			f[1] = Finding{Policy: "kernels are of our mirror", Rule: "kernel-origin", Status: Drift, Text: "runs a kernel from elsewhere", Since: ago(3), Fields: []Difference{{"vendor", "Rocky Enterprise Software Foundation", "The ELRepo Project"}}}
		}
		if i >= 40 && i < 52 {
			f[2] = Finding{Policy: "rebooted every quarter", Rule: "uptime", Status: Drift, Text: "was not rebooted for too long", Since: ago(i - 39), Fields: []Difference{{"uptime", fmt.Sprintf("%d days", 51+i), "<= 90 days"}}}
		}
		if i == 57 {
			f[3] = Finding{Policy: "no foreign modules", Rule: "kernel-modules-absent", Status: Waived, Text: "has loaded what must not be: nvidia", Since: ago(90),
				Waiver: &Waiver{Owner: "ada@example.org", Reason: "the GPU node", Expires: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)}}
		}
		if i == 58 {
			f[1] = Finding{Policy: "kernels are of our mirror", Rule: "kernel-origin", Status: Unknown, Text: "the kernel that runs, 6.1.4-custom, is of no installed package", Hint: "rpm -qf /boot/vmlinuz-6.1.4-custom there"}
		}
		if i == 59 {
			h.Findings, h.Problem = []Finding{}, &rollout.Problem{Message: "cannot read the facts of worker60: cannot connect to worker60: 10.0.0.60:22: no route to host", Hint: "is it up?", Unreachable: true}
		}
		r.Hosts = append(r.Hosts, h)
	}
	r.Hosts = append(r.Hosts,
		Host{Name: rollout.Localhost, Findings: []Finding{{Policy: PlaybookPolicy, Rule: "kube-proxy", Status: Drift, Text: "would take kube-proxy off the nodes", Since: &now,
			Fields: []Difference{{"DaemonSet kube-system/kube-proxy nodeSelector", "", "non-calico=true"}}}}},
		Host{Name: hostile, Findings: []Finding{{Policy: "no foreign modules", Rule: "kernel-modules-absent", Status: Drift, Text: "has loaded what must not be: " + hostile,
			Fields: []Difference{{hostile, hostile, hostile}}, Waiver: &Waiver{Owner: hostile, Reason: hostile, Expires: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Expired: true}}}},
	)
	for i := range r.Hosts {
		h := &r.Hosts[i]
		h.Status = Compliant
		for _, f := range h.Findings {
			h.Status = worse(h.Status, f.Status)
		}
		if h.Problem != nil {
			h.Status = Unknown
		}
	}
	return r
}

// some are a few of its hosts, of each kind: enough to see the form.
func some() *Report {
	r := sample()
	r.Hosts = append(r.Hosts[39:42], r.Hosts[57:]...)
	return r
}

func written(t *testing.T, write func(io.Writer, *Report) error, r *Report) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestJSON(t *testing.T) {
	raw := written(t, JSON, sample())
	golden(t, "report.json", raw)
	var again Report
	if err := json.Unmarshal(raw, &again); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(sample(), &again); d != "" {
		t.Errorf("read back (-want +got):\n%s", d)
	}
}

// TestJUnit reads the file as a strict reader of XML does, and counts as Jenkins does:
// each testcase by what it holds.
func TestJUnit(t *testing.T) {
	raw := written(t, JUnit, sample())
	golden(t, "report.junit.xml", written(t, JUnit, some()))
	type count struct{ tests, failures, errors, skipped int }
	var suite, all count
	var open []string
	attr := func(e xml.StartElement, name string) string {
		for _, a := range e.Attr {
			if a.Name.Local == name {
				return a.Value
			}
		}
		t.Errorf("<%s> lacks %s", e.Name.Local, name)
		return ""
	}
	said := func(e xml.StartElement) (c count) {
		for name, to := range map[string]*int{"tests": &c.tests, "failures": &c.failures, "errors": &c.errors, "skipped": &c.skipped} {
			if _, err := fmt.Sscan(attr(e, name), to); err != nil {
				t.Error(err)
			}
		}
		return c
	}
	parents := map[string]string{"testsuites": "", "testsuite": "testsuites", "testcase": "testsuite", "failure": "testcase", "error": "testcase", "skipped": "testcase"}
	var told []count
	d := xml.NewDecoder(bytes.NewReader(raw))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			name := e.Name.Local
			if want, ok := parents[name]; !ok || want != strings.Join(open[max(0, len(open)-1):], "") {
				t.Errorf("<%s> below %v", name, open)
			}
			open = append(open, name)
			switch name {
			case "testsuites", "testsuite":
				told = append(told, said(e))
				suite = count{}
				if name == "testsuite" {
					if _, err := time.Parse("2006-01-02T15:04:05", attr(e, "timestamp")); err != nil {
						t.Error(err)
					}
				}
			case "testcase":
				attr(e, "name")
				attr(e, "classname")
				suite.tests++
			case "failure":
				suite.failures++
			case "error":
				suite.errors++
			case "skipped":
				suite.skipped++
			}
		case xml.EndElement:
			open = open[:len(open)-1]
			if e.Name.Local == "testsuite" {
				if last := told[len(told)-1]; last != suite {
					t.Errorf("a suite says %+v and holds %+v", last, suite)
				}
				all = count{all.tests + suite.tests, all.failures + suite.failures, all.errors + suite.errors, all.skipped + suite.skipped}
			}
		}
	}
	if told[0] != all || all.failures != 40+40+12+1+1 || all.errors != 2 || all.skipped != 1 {
		t.Errorf("the file says %+v and holds %+v", told[0], all)
	}
}

// TestSARIF holds what SARIF 2.1.0 asks for beyond the types: sections 3.27.9 (kind),
// 3.27.10 (level), 3.27.6 (ruleIndex), 3.4.3 (uri), 3.11 (message), 3.35 (suppression).
func TestSARIF(t *testing.T) {
	raw := written(t, SARIF, sample())
	golden(t, "report.sarif", written(t, SARIF, some()))
	var log sarifLog
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&log); err != nil {
		t.Fatal(err)
	}
	run := log.Runs[0]
	if log.Version != "2.1.0" || run.Invocations[0].ExecutionSuccessful != true {
		t.Errorf("version %s, %+v", log.Version, run.Invocations)
	}
	seen, kinds := map[string]bool{}, map[string]int{}
	for _, r := range run.Results {
		if run.Tool.Driver.Rules[r.RuleIndex].ID != r.RuleID {
			t.Errorf("ruleIndex %d is not %s", r.RuleIndex, r.RuleID)
		}
		if (r.Kind == "fail") == (r.Level == "none") {
			t.Errorf("kind %s with level %s", r.Kind, r.Level)
		}
		if r.Message.Text == "" || len(r.Locations) != 1 {
			t.Errorf("%+v", r)
		}
		l := r.Locations[0]
		if u, err := url.Parse(l.Physical.Artifact.URI); err != nil || u.String() != l.Physical.Artifact.URI {
			t.Errorf("%q is no URI: %v", l.Physical.Artifact.URI, err)
		}
		if print := r.PartialFingerprints["fleetd/v1"]; seen[print] {
			t.Errorf("two results have the fingerprint %s", print)
		} else {
			seen[print] = true
		}
		if len(r.Suppressions) > 0 {
			kinds["suppressed"]++
		}
		kinds[r.Kind]++
	}
	if d := cmp.Diff(map[string]int{"fail": 95, "open": 1, "suppressed": 1}, kinds); d != "" {
		t.Error(d)
	}
	if n := run.Invocations[0].Notifications; len(n) != 1 {
		t.Errorf("%+v", n)
	}
}

// TestPrometheus reads the file with Prometheus' own parser.
func TestPrometheus(t *testing.T) {
	raw := written(t, Prometheus, sample())
	golden(t, "report.prom", written(t, Prometheus, some()))
	var parser expfmt.TextParser
	families, err := parser.TextToMetricFamilies(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range families {
		if f.GetHelp() == "" || f.GetType().String() != "GAUGE" || !strings.HasPrefix(name, "fleetd_compliance_") {
			t.Errorf("%s: %s %q", name, f.GetType(), f.GetHelp())
		}
		series := map[string]bool{}
		for _, m := range f.GetMetric() {
			if math.IsNaN(m.GetGauge().GetValue()) || series[fmt.Sprint(m.GetLabel())] {
				t.Errorf("%s: %v", name, m)
			}
			series[fmt.Sprint(m.GetLabel())] = true
		}
	}
	hosts := map[string]float64{}
	for _, m := range families["fleetd_compliance_hosts"].GetMetric() {
		hosts[m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
	}
	if d := cmp.Diff(map[string]float64{"compliant": 5, "drift": 54, "waived": 1, "unknown": 2}, hosts); d != "" {
		t.Error(d)
	}
	found := false
	for _, m := range families["fleetd_compliance_trouble"].GetMetric() {
		for _, l := range m.GetLabel() {
			found = found || l.GetName() == "host" && l.GetValue() == strings.ToValidUTF8(hostile, "\uFFFD")
		}
	}
	if !found {
		t.Error("a host's name does not come back as it is")
	}
}

// TestFold: 60 hosts take as many rows as there are troubles, what matters most first.
func TestFold(t *testing.T) {
	var got []string
	for _, f := range Fold(sample()) {
		got = append(got, fmt.Sprintf("%s %s/%s %d kinds, %d hosts", f.Status, f.Name, f.Rule, len(f.Kinds), f.Hosts()))
	}
	want := []string{
		"drift playbook/kernel-running 1 kinds, 40 hosts",
		"drift kernels are of our mirror/kernel-origin 1 kinds, 40 hosts",
		"drift playbook/kube-proxy 1 kinds, 1 hosts",
		"drift no foreign modules/kernel-modules-absent 1 kinds, 1 hosts",
		"drift rebooted every quarter/uptime 12 kinds, 12 hosts",
		"unknown kernels are of our mirror/kernel-origin 1 kinds, 1 hosts",
		"waived no foreign modules/kernel-modules-absent 1 kinds, 1 hosts",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
