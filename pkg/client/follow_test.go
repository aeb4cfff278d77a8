package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/server"
)

// cutOff is a connection that is lost after so many bytes.
type cutOff struct {
	net.Conn
	left int
}

func (c *cutOff) Read(p []byte) (int, error) {
	if c.left <= 0 {
		_ = c.Close()
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// cutting has every connection of a client lost after at most so many bytes.
func cutting(c *Client, most int) *atomic.Int64 {
	var dials atomic.Int64
	tr := c.http.Transport.(*http.Transport)
	tr.DisableKeepAlives = true
	tr.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return &cutOff{conn, rand.IntN(most)}, err
	}
	return &dials
}

// TestFollowMissesNothing follows a run that goes on meanwhile, over connections that are
// lost at any byte: each event comes once, in order, to the end.
func TestFollowMissesNothing(t *testing.T) {
	dir := t.TempDir()
	w := recordRun(t, dir)
	c := serving(t, dir)(server.Viewer)
	c.follow = following{quiet: time.Minute}
	dials := cutting(c, 8000)
	id := rollout.StepID{Host: "n1"}
	const most = 300
	said, away := 0, false
	lost := func(err error) {
		if away == (err != nil) {
			t.Errorf("it is said twice: %v", err)
		}
		away = err != nil
		said++
	}
	var run rollout.Run
	for begun := false; !begun; { // the first connection is tried once
		for n, err := range c.Follow(t.Context(), runID, lost) {
			if err != nil && run.Seq == 0 {
				break
			}
			begun = true
			switch {
			case err != nil:
				t.Fatal(err)
			case n.Event == nil && run.Status == rollout.Done:
				continue
			case n.Event == nil && !n.Held:
				t.Fatalf("nobody is said to be at it: %+v", n)
			case n.Event != nil:
				if err := run.Apply(*n.Event); err != nil {
					t.Fatal(err)
				}
			}
			switch { // something comes with all that does
			case n.Event == nil, run.Status == rollout.Done:
			case run.Seq == most:
				add(t, w, rollout.Event{Seq: most + 1, Type: rollout.RunDone})
			case run.Seq == 1:
				var events []rollout.Event
				events = append(events, rollout.Event{Seq: 2, Type: rollout.StepStarted, Step: &id, Attempt: 1})
				for i := int64(3); i <= most; i++ {
					events = append(events, rollout.Event{Seq: i, Type: rollout.StepOperation, Step: &id, Attempt: 1, Operation: &rollout.Operation{Kind: "ssh", Host: "n1", Text: strings.Repeat("echo ", rand.IntN(100))}})
				}
				add(t, w, events...)
			}
		}
	}
	if run.Seq != most+1 || run.Status != rollout.Done || away {
		t.Errorf("%d events, it is %s, away %v", run.Seq, run.Status, away)
	}
	t.Logf("%d connections, said %d times", dials.Load(), said)
	if dials.Load() < 5 || said == 0 {
		t.Error("no connection was lost")
	}
}

// streaming answers with a stream of that text, and the plan of its run.
func streaming(t testing.TB, shown *rollout.Plan, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/plan") {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(encoded(t, shown))
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, text)
	}
}

// TestFollowUnkind: what no server of ours says ends it, readably; it is not asked for
// again.
func TestFollowUnkind(t *testing.T) {
	shown, meant := plan(t, "harmless"), plan(t, "not so")
	begin := fmt.Sprintf("id: 1\nevent: run.started\ndata: {\"seq\": 1, \"type\": \"run.started\", \"plan\": %q}\n\n", shown.Digest)
	second := "event: run.interrupted\ndata: {\"seq\": 2, \"type\": \"run.interrupted\"}\n\n"
	var written atomic.Int64
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"another plan": {streaming(t, shown, strings.ReplaceAll(begin, shown.Digest, meant.Digest)), "another plan than that of run"},
		"one left out": {streaming(t, shown, begin+strings.ReplaceAll(second, "2", "3")), "event 3 of run " + runID + " after event 1"},
		"the same":     {streaming(t, shown, begin+second+second), "event 2 of run " + runID + " after event 2"},
		"no JSON":      {streaming(t, shown, begin+"event: run.done\ndata: \x1b[2J\n\n"), "not that of the API"},
		"held by none": {streaming(t, shown, begin+"event: run.held\ndata: 3\n\n"), "not that of the API"},
		"two lines":    {streaming(t, shown, begin+"data: {\ndata: }\n\n"), "a message of several lines"},
		"no stream": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"events": []}`)
		}, `"application/json" in place of a stream`},
		"no end of a line": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for block := []byte(strings.Repeat("x", 1<<20)); ; {
				n, err := w.Write(block)
				if written.Add(int64(n)); err != nil {
					return
				}
			}
		}, "more than 16 MB in a line"},
		"no end of the header": {func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			for _, err = io.WriteString(conn, "HTTP/1.1 200 OK\r\n"); err == nil; {
				_, err = io.WriteString(conn, "X-More: "+strings.Repeat("x", 1000)+"\r\n")
			}
		}, "server response headers exceeded"},
		"gone": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, "502 Bad Gateway"},
		"who are you": {func() http.HandlerFunc {
			asked := false
			return func(w http.ResponseWriter, r *http.Request) {
				if asked && r.Header.Get("Last-Event-ID") == "1" {
					w.Header().Set("Content-Type", "application/json")
					w.WriteHeader(http.StatusUnauthorized)
					_, _ = io.WriteString(w, `{"error": "no token\u001b[2J"}`)
					return
				}
				asked = asked || strings.HasSuffix(r.URL.Path, "/events")
				streaming(t, shown, begin)(w, r)
			}
		}(), "no token"},
	} {
		u := unkind(t, c.answer)
		u.follow = following{quiet: time.Minute, patience: time.Hour}
		var last error
		for _, err := range u.Follow(t.Context(), runID, func(err error) { t.Errorf("%s: %v", name, err) }) {
			last = err
		}
		if last == nil || !strings.Contains(last.Error(), c.want) || strings.Contains(last.Error(), "\x1b") {
			t.Errorf("%s: %v, expected %q", name, last, c.want)
		}
	}
	if n := written.Load(); n > 2*mostMessage {
		t.Errorf("%d MB of a line were taken", n>>20)
	}
}

// TestFollowWaits: a server that goes silent is left, one that is being started anew is
// waited for, and a message that was cut off is none; so it goes on until it is interrupted.
func TestFollowWaits(t *testing.T) {
	shown := plan(t, "harmless")
	begin := fmt.Sprintf("event: run.started\ndata: {\"seq\": 1, \"type\": \"run.started\", \"plan\": %q}\n\n", shown.Digest)
	var step atomic.Int64
	c := unkind(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/plan") {
			streaming(t, shown, "")(w, r)
			return
		}
		after, n := r.Header.Get("Last-Event-ID"), int64(0)
		if after != "" {
			n = step.Add(1)
		}
		if after != "" && after != "1" {
			t.Errorf("connection %d goes on after %q", n, after)
		}
		switch n {
		case 0:
			streaming(t, shown, begin+"event: run.done\ndata: {\"seq\": 2, \"type\": \"run.done\"}\n")(w, r)
		case 1: // silence, with a header
			w.Header().Set("Content-Type", "text/event-stream")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		case 2: // and without one
			<-r.Context().Done()
		case 3: // a proxy
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusBadGateway)
		case 4: // a server that is too busy
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `{"error": "too many follow runs already"}`)
		default:
			streaming(t, shown, ":\n\nevent: run.held\r\ndata: {\"held\": true, \"quiet_seconds\": 2}\r\n\r\n")(w, r)
		}
	})
	c.follow = following{quiet: time.Second}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var got, said []string
	for n, err := range c.Follow(ctx, runID, func(err error) { said = append(said, fmt.Sprint(err)) }) {
		switch {
		case n.Event != nil:
			got = append(got, string(n.Event.Type))
		case err != nil:
			got = append(got, err.Error())
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		default:
			got = append(got, fmt.Sprintf("%v %v", n.Held, n.Quiet))
			stop()
		}
	}
	if want := "run.started, true 2s, context canceled"; strings.Join(got, ", ") != want {
		t.Errorf("%q, expected %q", got, want)
	}
	if len(said) != 2 || !strings.Contains(said[0], "the server has ended the connection") || said[1] != "<nil>" {
		t.Errorf("%q", said)
	}
}
