package client

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/view"
)

// FuzzEvents: whatever a server says happened, it is told without control characters, or
// refused.
func FuzzEvents(f *testing.F) {
	shown := plan(f, "install kernel-ml")
	start := `{"seq": 1, "type": "run.started", "plan": "` + shown.Digest + `", "by": {"user": "anna\u001b[2J"}}`
	for _, e := range []string{
		`{"seq": 2, "type": "step.started", "step": {"play": 0, "task": 0, "host": "n1"}, "attempt": 1}`,
		`{"seq": 2, "type": "step.started", "step": {"play": 9, "task": -1, "host": "n1"}, "attempt": 1}`,
		`{"seq": 2, "type": "step.ended"}`, `{"seq": 2, "type": "run.halted"}`, `{"seq": 2, "type": "run.requested"}`,
		`{"seq": 2, "type": "run.requested", "request": {"verb": "pause\u001b[2J", "reason": "\u001b]0;x\u0007"}}`,
		`{"seq": 2, "type": "step.operation", "step": {"play": 0, "task": 0, "host": "n1"}}`,
		`{"seq": 2, "type": "run.started"}`, `null`, `{"seq": 2, "type": "run.resumed", "by": {"user": "\u009b2J"}}`,
	} {
		f.Add(e)
	}
	said := ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/plan"):
			_, _ = w.Write(encoded(f, shown))
		case r.URL.Query().Get("after") == "0":
			_, _ = io.WriteString(w, `{"events": [`+start+`, `+said+`]}`)
		default:
			_, _ = io.WriteString(w, `{"events": []}`)
		}
	}))
	defer s.Close()
	c := to(f, s.URL, "token")
	f.Fuzz(func(t *testing.T, event string) {
		said = event
		var out strings.Builder
		err := view.Tale(&out, view.Style{}, runID, c.Events(t.Context(), runID), view.TaleOptions{})
		text := out.String()
		if err != nil {
			text += clip(err.Error()) // as the program prints it
		}
		if strings.ContainsAny(text, "\x1b\x07\u009b") {
			t.Errorf("%q", text)
		}
	})
}

// FuzzFollow: whatever a stream brings, the screen of who follows it shows no control
// characters, and nothing breaks.
func FuzzFollow(f *testing.F) {
	shown := plan(f, "install kernel-ml\x1b[2J")
	start := "event: run.started\ndata: {\"seq\": 1, \"type\": \"run.started\", \"plan\": \"" + shown.Digest + "\", \"by\": {\"user\": \"anna\\u001b[2J\"}}\n\nevent: run.held\ndata: {\"held\": true, \"quiet_seconds\": 3}\n\n"
	for _, e := range []string{
		`{"seq": 2, "type": "step.started", "step": {"play": 0, "task": 0, "host": "n1"}, "attempt": 1}`,
		`{"seq": 2, "type": "step.started", "step": {"play": 9, "task": -1, "host": "n1"}, "attempt": 1}`,
		`{"seq": 2, "type": "step.ended"}`, `{"seq": 2, "type": "run.halted"}`, `{"seq": 2, "type": "run.requested"}`, `{"seq": 2, "type": "run.done"}`,
		`{"seq": 2, "type": "run.halted", "halt": {"play": 7, "batch": -1, "reason": "\u001b[2J", "hosts": ["\u001b"]}}`,
		`{"seq": 2, "type": "run.requested", "request": {"verb": "pause\u001b[2J", "reason": "\u001b]0;x\u0007"}}`,
	} {
		f.Add("event: x\ndata: "+e+"\n\n", "{\"held\": false}")
	}
	said := ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { streaming(f, shown, said)(w, r) }))
	defer s.Close()
	c := to(f, s.URL, "token")
	c.follow = following{quiet: time.Minute}
	f.Fuzz(func(t *testing.T, messages, held string) {
		said = start + messages + "event: run.held\ndata: " + strings.ReplaceAll(held, "\n", "") + "\n\n"
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var screen strings.Builder
		out, run := view.NewOutput(&screen), rollout.Run{}
		p := view.NewProgress(out, view.Style{}, runID, time.Now)
		for n, err := range c.Follow(ctx, runID, func(error) { stop() }) {
			if err == nil && n.Event != nil {
				err = run.Apply(*n.Event)
			}
			if err != nil {
				out.Line(clip(err.Error()), true)
				break
			}
			if n.Event != nil {
				p.Watch(&run, *n.Event)
				continue
			}
			st := view.StandingOf(runID, &run, n.Held, n.Quiet, n.Usual, view.Next{})
			p.Join(&run, &st, time.Now())
			if !n.Held {
				view.End(out, view.Style{}, &run, view.Next{}, nil)
				break
			}
		}
		p.Close()
		if err := out.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(screen.String(), "\x1b\x07\u009b") {
			t.Errorf("%q", screen.String())
		}
	})
}
