package server

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// overNetwork is a server that is asked over the network.
func overNetwork(t *testing.T, s *Server) string {
	t.Helper()
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	s.address = h.Listener.Addr().String()
	return h.URL
}

// listen reads events of a stream until most were read, or it ends.
func listen(t *testing.T, url, last string, most int) (ids []string, events []apiEvent, status int) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+viewerSecret)
	r.Header.Set("Accept", "text/event-stream")
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 4<<20)
	id, kind := "", ""
	for len(events) < most && lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "id":
			id = value
		case "event":
			kind = value
		case "data":
			if kind == "run.held" {
				continue
			}
			var e apiEvent
			if err := json.Unmarshal([]byte(value), &e); err != nil {
				t.Fatal(err)
			}
			if id != fmt.Sprint(e.Seq) || kind != string(e.Type) {
				t.Errorf("id %s, event %s, data %s", id, kind, value)
			}
			ids, events = append(ids, id), append(events, e)
		}
	}
	return ids, events, res.StatusCode
}

// TestStreamMissesNothing follows a run that goes on meanwhile, hung up on again
// and again: each event comes once, in order, to the end.
func TestStreamMissesNothing(t *testing.T) {
	dir := t.TempDir()
	rec := recordRun(t, dir, runID, fleet(8))
	url := overNetwork(t, serve(t, dir)) + "/api/v1/runs/" + runID + "/events"
	var got []int64
	last := ""
	over := false
	for n := 1; ; n++ {
		if !over {
			over = rec.play(n%7, failing("worker03"))
		}
		most := n%5 + 1 // no more than are there: a stream that has no more waits
		if !over {
			most = min(most, int(rec.run.Seq)-len(got))
		}
		ids, events, status := listen(t, url, last, most)
		if status == http.StatusNoContent {
			break
		}
		for _, e := range events {
			got = append(got, e.Seq)
		}
		if len(ids) > 0 {
			last = ids[len(ids)-1]
		}
	}
	var want []int64
	for i := range rec.run.Seq {
		want = append(want, i+1)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if !over {
		t.Error("the stream says that it is over, and the run is not")
	}
}

// TestStreamGoesOn: who waits gets what comes; a stream ends with its run.
func TestStreamGoesOn(t *testing.T) {
	dir := t.TempDir()
	rec := recordRun(t, dir, runID, fleet(4))
	url := overNetwork(t, serve(t, dir)) + "/api/v1/runs/" + runID + "/events"
	var events []apiEvent
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, events, _ = listen(t, url, "", 1<<30)
	}()
	for range 20 {
		if rec.play(3, nil) {
			break
		}
	}
	rec.play(1<<30, nil)
	<-done
	if int64(len(events)) != rec.run.Seq || events[len(events)-1].Type != rollout.RunDone {
		t.Errorf("%d events, %d are there", len(events), rec.run.Seq)
	}
}

// TestStreamTellsWhoHolds: that all events were sent, and that a process is at the run or
// has left it, comes after them, once for each change.
func TestStreamTellsWhoHolds(t *testing.T) {
	dir := t.TempDir()
	rec := recordRun(t, dir, runID, fleet(4))
	rec.play(3, nil)
	url := overNetwork(t, serve(t, dir)) + "/api/v1/runs/" + runID + "/events"
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+viewerSecret)
	r.Header.Set("Accept", "text/event-stream")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines, events, kind := bufio.NewScanner(res.Body), int64(0), ""
	lines.Buffer(nil, 4<<20)
	next := func() (is held) {
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch {
			case name == "event":
				if kind = value; kind != "run.held" {
					events++
				}
			case name == "data" && kind == "run.held":
				if err := json.Unmarshal([]byte(value), &is); err != nil {
					t.Fatal(err)
				}
				return is
			}
		}
		t.Fatal("the stream has ended", lines.Err())
		return is
	}
	if is := next(); !is.Held || is.Quiet <= 0 || events != rec.run.Seq {
		t.Errorf("%+v after %d events, %d are there", is, events, rec.run.Seq)
	}
	if err := rec.lock.Release(); err != nil {
		t.Fatal(err)
	}
	if is := next(); is.Held || events != rec.run.Seq {
		t.Errorf("%+v after %d events", is, events)
	}
	if rec.lock, err = journal.Acquire(dir, runID); err != nil {
		t.Fatal(err)
	}
	if is := next(); !is.Held {
		t.Errorf("%+v", is)
	}
	rec.play(1<<30, nil)
	for lines.Scan() {
		if name, _, _ := strings.Cut(lines.Text(), ": "); name == "id" {
			events++
		}
	}
	if events != rec.run.Seq || lines.Err() != nil {
		t.Errorf("%d events, %d are there, %v", events, rec.run.Seq, lines.Err())
	}
}

func TestTooManyStreams(t *testing.T) {
	dir := t.TempDir()
	recordRun(t, dir, runID, fleet(4))
	s := brief(t, dir)
	s.streams.Store(mostStreams)
	r := request(http.MethodGet, "/api/v1/runs/"+runID+"/events", viewerSecret, nil)
	r.Header.Set("Accept", "text/event-stream")
	if w := ask(s, r); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d", w.Code)
	}
	s.streams.Store(0)
	if w := ask(s, r.Clone(t.Context())); w.Code != http.StatusOK {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
	if n := s.streams.Load(); n != 0 {
		t.Errorf("%d streams are left", n)
	}
}

// TestFollowSharesWork: however many look, the journal is read no more often.
func TestFollowSharesWork(t *testing.T) {
	dir := t.TempDir()
	rec := recordRun(t, dir, runID, fleet(4))
	s := serve(t, dir)
	now := time.Now()
	s.store.now = func() time.Time { return now }
	seq := func() int64 {
		f, err := s.store.follow(t.Context(), runID)
		if err != nil {
			t.Fatal(err)
		}
		return f.now().seq
	}
	first := seq()
	rec.play(3, nil)
	if got := seq(); got != first {
		t.Errorf("it was read again at once: event %d after %d", got, first)
	}
	now = now.Add(fresh)
	if got := seq(); got != rec.run.Seq {
		t.Errorf("it was not read again: event %d of %d", got, rec.run.Seq)
	}
}

// TestJournalComesLater: a server that is there before the journal, and looks at it
// while it is made, shows what is written to it.
func TestJournalComesLater(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, dir)
	runs := func() int {
		rows, _, err := s.store.list(t.Context(), "", 10)
		if err != nil {
			t.Fatal(err)
		}
		return len(rows)
	}
	if n := runs(); n != 0 {
		t.Errorf("%d runs without a journal", n)
	}
	if w := get(t, s, "/runs/"+runID); w.Code != http.StatusNotFound {
		t.Errorf("a run without a journal: %d", w.Code)
	}
	file := filepath.Join(dir, "journal.db")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if n := runs(); n != 0 {
		t.Errorf("%d runs in a file without tables", n)
	}
	rec := recordRun(t, dir, runID, fleet(4))
	if n := runs(); n != 1 {
		t.Errorf("%d runs, want 1", n)
	}
	if err := rec.journal.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file, file+".old"); err != nil {
		t.Fatal(err)
	}
	if n := runs(); n != 0 {
		t.Errorf("%d runs of a file that was moved away", n)
	}
}
