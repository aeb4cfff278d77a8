package client

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

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
