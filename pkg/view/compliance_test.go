package view

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/compliance"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// drifting is the report that pkg/compliance's own tests write: 60 hosts, one of which
// is called what no host should be.
func drifting(t *testing.T) *compliance.Report {
	t.Helper()
	raw, err := os.ReadFile("../compliance/testdata/report.json")
	if err != nil {
		t.Fatal(err)
	}
	var r compliance.Report
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

func TestCompliance(t *testing.T) {
	var out bytes.Buffer
	Compliance(&out, Style{}, drifting(t))
	golden(t, "compliance.txt", out.Bytes())
	if n := bytes.Count(out.Bytes(), []byte("\n")); n > 70 {
		t.Errorf("60 hosts take %d lines", n)
	}
	out.Reset()
	Compliance(&out, Style{}, compliant())
	golden(t, "compliance-good.txt", out.Bytes())
}

func compliant() *compliance.Report {
	return &compliance.Report{
		At: time.Date(2026, 11, 27, 6, 0, 0, 0, time.UTC), Inventories: []string{"hosts"}, Playbook: "site.yml", Status: compliance.Compliant,
		Policies: []compliance.Policy{{Name: compliance.PlaybookPolicy, Severity: compliance.High}},
		Hosts: []compliance.Host{{Name: "n1", Status: compliance.Compliant, Findings: []compliance.Finding{
			{Policy: compliance.PlaybookPolicy, Rule: "kernel-running", Status: compliance.Compliant, Text: "runs 6.1.4"}}}},
	}
}

func TestComplianceMarkdown(t *testing.T) {
	var out bytes.Buffer
	if err := ComplianceMarkdown(&out, drifting(t)); err != nil {
		t.Fatal(err)
	}
	golden(t, "compliance.md", out.Bytes())
	// A row of a table has as many cells as its heading, whatever is in them.
	cells := 0
	for line := range strings.Lines(out.String()) {
		n := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|")
		switch {
		case n == 0:
			cells = 0
		case cells == 0:
			cells = n
		case n != cells:
			t.Errorf("%d of %d cells: %s", n-1, cells-1, line)
		}
	}
	if strings.Contains(out.String(), "<script") {
		t.Error("a host's name is HTML")
	}
}

// TestComplianceHTML: the page takes nothing from anywhere, and what hosts say is text.
func TestComplianceHTML(t *testing.T) {
	for name, r := range map[string]*compliance.Report{"compliance.html": drifting(t), "compliance-good.html": compliant()} {
		var out bytes.Buffer
		if err := ComplianceHTML(&out, r); err != nil {
			t.Fatal(err)
		}
		golden(t, name, out.Bytes())
		for _, never := range []string{"<script", "src=", "href=", "url(", "@import", " style=", "onload", "javascript:", "\x1b", "\x00", "ZgotmplZ"} {
			if strings.Contains(out.String(), never) {
				t.Errorf("%s: the page has %q", name, never)
			}
		}
		if !regexp.MustCompile(`content="default-src &#39;none&#39;; style-src &#39;sha256-[A-Za-z0-9&#;+/]{40,60}=&#39;"`).MatchString(out.String()) {
			t.Errorf("%s has no policy that lets in its style alone", name)
		}
	}
}

func TestComplianceDiff(t *testing.T) {
	before := []rollout.Ruling{
		{Host: "n1", Policy: "playbook", Rule: "kernel-running", Status: "compliant"},
		{Host: "n2", Policy: "playbook", Rule: "kernel-running", Status: "compliant"},
		{Host: "n3", Policy: "up", Rule: "uptime", Status: "drift", Text: "was not rebooted for too long: uptime is 91 days, should be <= 90 days"},
		{Host: "n4", Policy: "up", Rule: "uptime", Status: "drift", Text: "gone with its host"},
		{Host: "n5", Policy: "up", Rule: "uptime", Status: "drift", Text: "stays"},
	}
	after := []rollout.Ruling{
		{Host: "n1", Policy: "playbook", Rule: "kernel-running", Status: "drift", Text: "would reboot into 6.1.4, on trial\x1b[2J"},
		{Host: "n2", Policy: "playbook", Rule: "kernel-running", Status: "drift", Text: "would reboot into 6.1.4, on trial\x1b[2J"},
		{Host: "n3", Policy: "up", Rule: "uptime", Status: "compliant"},
		{Host: "n5", Policy: "up", Rule: "uptime", Status: "drift", Text: "stays"},
		{Host: "n6", Status: "unknown", Text: "cannot connect to n6"},
	}
	d := compliance.Diff{From: "20261126-060000-aaaa", To: "20261127-060000-bbbb", ToAt: time.Date(2026, 11, 27, 6, 0, 0, 0, time.UTC), FromAt: time.Date(2026, 11, 26, 6, 0, 0, 0, time.UTC),
		Changes: compliance.Changes(before, after)}
	var out bytes.Buffer
	ComplianceDiff(&out, Style{}, &d)
	golden(t, "compliance-diff.txt", out.Bytes())
}
