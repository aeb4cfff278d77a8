package server

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// hostile is what a host's name, an output and a value of an inventory may hold.
const hostile = "<script>alert(1)</script>\"'&\x1b]0;owned\x07\x1b[31mred\x1b[1m{{.}}\r\n"

// TestHostileTexts: nothing that a node or an inventory says is markup or drives a
// terminal.
func TestHostileTexts(t *testing.T) {
	dir := t.TempDir()
	p := fleet(4)
	bad := "n<img src=x onerror=alert(1)>\x1b[2J"
	old := p.Plays[0].Batches[0][0]
	p.Plays[0].Batches[0][0] = bad
	p.Plays[0].Name = "Play " + hostile
	p.Source.Inventories = []string{hostile}
	for i := range p.Plays[0].Tasks {
		task := &p.Plays[0].Tasks[i]
		step := task.Steps[old]
		step.Change.Summary, step.Change.Reasons = hostile, []string{hostile}
		step.Change.Fields = []rollout.Field{{Name: hostile, Before: hostile, After: hostile}}
		step.Change.Diff = []string{"+" + hostile}
		task.Steps[bad] = step
		delete(task.Steps, old)
		task.Name = "Task " + hostile
	}
	rec := recordRun(t, dir, runID, p)
	long := strings.Repeat("x", 1<<20) // a line of a megabyte
	rec.play(1<<30, func(id rollout.StepID) (rollout.Outcome, string) {
		if id.Host == bad && id.Task == 3 {
			return rollout.Outcome{Kind: rollout.Failed, Message: hostile, Hint: hostile}, long + hostile
		}
		return rollout.Did("%s", hostile), hostile
	})
	recordLook(t, dir, look{inventory: hostile, hosts: map[string]string{bad: "drift", "n2": "unknown"}, text: hostile})
	recordLook(t, dir, look{inventory: "other.yaml"})
	s := brief(t, dir)
	for _, path := range []string{
		"/", "/compliance", "/runs/" + runID, "/runs/" + runID + "?q=" + url.QueryEscape(hostile) + "&state=" + url.QueryEscape(hostile), "/runs/" + runID + "?state=lost",
		"/runs/" + runID + "/plan", "/runs/" + runID + "/hosts/" + url.PathEscape(bad), "/runs/" + url.PathEscape(hostile), "/login?to=" + url.QueryEscape("/"+hostile), "/runs/" + runID + "/live",
	} {
		r := request(http.MethodGet, path, viewerSecret, nil)
		r.Header.Set("Accept", "text/html")
		w := ask(s, r)
		text := w.Body.String()
		if strings.HasSuffix(path, "/live") { // JSON in one line, whose < and > are escaped by encoding/json
			text = strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(text)
		}
		for _, never := range []string{"<script>alert", "<img", "\x1b", "\x07", "ZgotmplZ"} {
			if strings.Contains(text, never) {
				at := strings.Index(text, never)
				t.Errorf("%.60s shows %q: %.200q", path, never, text[max(0, at-80):])
			}
		}
		if len(text) < 200 {
			t.Errorf("%.60s: %d %q", path, w.Code, text)
		}
	}
	if w := get(t, s, "/runs/"+runID+"/hosts/"+url.PathEscape(bad)); !strings.Contains(w.Body.String(), long) || !strings.Contains(w.Body.String(), "&lt;script&gt;alert(1)") {
		t.Error("the story of the host is not told")
	}
}

// TestReadableWithoutScript: what there is to know of a run is in the page itself.
func TestReadableWithoutScript(t *testing.T) {
	dir := t.TempDir()
	rec := recordRun(t, dir, runID, fleet(40))
	rec.play(1<<30, failing("worker03", "worker07"))
	s := serve(t, dir)
	for path, wants := range map[string][]string{
		"/": {"/runs/" + runID, "done", "worker03,worker07", "anna@bastion1"},
		"/runs/" + runID: {"2 hosts were lost", "worker03,worker07 (2 hosts)", "look at its console", "fleetd apply inventory.yaml", `class="l" href="/runs/` + runID + `/hosts/worker07"`,
			`title="worker07: lost"`, "Node boots the new kernel on trial"},
		"/runs/" + runID + "?q=WORKER0&state=lost": {"<td>Node boots the new kernel on trial</td>", `value="WORKER0"`},
		"/runs/" + runID + "/plan":                 {"Kernels on the workers", "install kernel-ml-6.1.176-1.el8.elrepo.x86_64", "→ 6.1.176-1.el8.elrepo.x86_64", `<span class="green">`},
		"/runs/" + runID + "/hosts/worker03":       {"worker03", "came back on 4.18.0-553.el8_10.x86_64", "uname -r", "look at its console"},
		"/runs/" + runID + "/hosts/localhost":      {"Data plane is BPF"},
	} {
		w := get(t, s, path)
		for _, want := range wants {
			if !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s does not say %q:\n%.3000s", path, want, w.Body)
			}
		}
	}
}

func TestTerminal(t *testing.T) {
	for in, want := range map[string]string{
		"plain <b>":                 "plain &lt;b&gt;",
		"\x1b[1;31mred\x1b[0m then": `<span class="red">red</span> then`,
		"\x1b[32mopen":              `<span class="green">open</span>`,
		"\x1b[32ma\x1b[1mb\x1b[0m":  "<span class=\"green\">a\uFFFD[1mb</span>",
		"\x1b[2J\x1b[0m":            "\uFFFD[2J\uFFFD[0m",
		"\x1b[\"><script>m":         "\uFFFD[&#34;&gt;&lt;script&gt;m",
		"\x1b[":                     "\uFFFD[",
		"\x1b]0;title\x07":          "\uFFFD]0;title\uFFFD",
	} {
		if got := string(terminal(in)); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}
