package notify

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// unkind is an event with what a name may hold.
func unkind() Event {
	at := time.Date(2026, 11, 27, 3, 0, 0, 0, time.FixedZone("", 3600))
	e := New(NodeLost, "x/1", at, "lost <!channel> \"a\" & \u2028 {{.}}\x1b", "fleetd runs show x").About([]string{"a\nb", `c"d`, "<e>"})
	e.Run = "x"
	return e
}

func TestShipped(t *testing.T) {
	for _, name := range []string{"json", "slack", "alertmanager"} {
		f, ok := Shipped(name)
		if !ok {
			t.Fatalf("there is no format %s", name)
		}
		for _, e := range append(samples(), unkind()) {
			if raw, err := f.Body(e); err != nil {
				t.Errorf("%s of %s: %v\n%s", name, e.Kind, err, raw)
			}
		}
	}
	if _, ok := Shipped("xml"); ok {
		t.Error("there is a format xml")
	}
}

func TestSlackCallsNobody(t *testing.T) {
	f, _ := Shipped("slack")
	raw, err := f.Body(unkind())
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Text string }
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(got.Text, "<>") || !strings.Contains(got.Text, "*critical*: lost &lt;!channel&gt;") {
		t.Errorf("%q", got.Text)
	}
}

func TestAlertmanager(t *testing.T) {
	f, _ := Shipped("alertmanager")
	raw, err := f.Body(unkind())
	if err != nil {
		t.Fatal(err)
	}
	var got []struct {
		Labels, Annotations map[string]string
		StartsAt, EndsAt    time.Time
	}
	if err := json.Unmarshal(raw, &got); err != nil || len(got) != 1 {
		t.Fatal(err, got)
	}
	a := got[0]
	if a.Labels["alertname"] != "FleetdNodeLost" || a.Labels["severity"] != "critical" || a.Labels["run"] != "x" || a.Annotations["hosts"] != "a\nb, c\"d, <e>" || a.EndsAt.Sub(a.StartsAt) != time.Hour {
		t.Errorf("%+v", a)
	}
	if _, there := a.Labels["fleet"]; there {
		t.Error("a label is empty, which Alertmanager refuses")
	}
}

func TestParseFormat(t *testing.T) {
	for text, want := range map[string]string{
		`{"what": {{json .Title}}}`:                          "",
		`{"n": {{len .Hosts}}, "a": {{json (join .Hosts)}}}`: "",
		`{{.Titel}}`:          "can't evaluate field Titel",
		`{{if}}`:              "missing value for if",
		`{{exec "id"}}`:       `function "exec" not defined`,
		`{{.Title}}`:          "what it writes is no JSON",
		`{"a": "{{.Title}}"}`: "what it writes is no JSON", // a name has a quote
		`{{if eq .Kind "run.done"}}x{{else}}{}{{end}}`: "of run.done: what it writes is no JSON",
		`{{range 100000}}"aaaaaaaaaa"{{end}}`:          "it writes more than 65536 bytes",
		``:                                             "what it writes is no JSON",
	} {
		_, err := ParseFormat("mine.tmpl", text)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// FuzzFormat: whatever a template is, what it writes is JSON, and bounded.
func FuzzFormat(f *testing.F) {
	for name := range shipped {
		f.Add(shipped[name])
	}
	f.Add(`{{range .Hosts}}{{.}}{{end}}`)
	f.Fuzz(func(t *testing.T, text string) {
		format, err := ParseFormat("x", text)
		if err != nil {
			return
		}
		for _, e := range samples() {
			raw, err := format.Body(e)
			if err != nil || !json.Valid(raw) || len(raw) > mostBody {
				t.Errorf("%q, %v", raw, err)
			}
		}
	})
}

func TestAbout(t *testing.T) {
	e := Event{}.About(make([]string, 300))
	if len(e.Hosts) != MostHosts || e.HostCount != 300 {
		t.Errorf("%d of %d", len(e.Hosts), e.HostCount)
	}
}
