package server

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// stopped is a run that was paused after so many steps, or is done, and a server.
func stopped(t *testing.T, steps int) (*recording, *Server) {
	t.Helper()
	dir := t.TempDir()
	plan := fleet(8)
	plan.Source.Playbook = "playbooks/site.yml"
	rec := recordRun(t, dir, runID, plan)
	if rec.play(steps, nil); rec.run.Status == rollout.Running {
		rec.add(time.Second, rollout.Event{Type: rollout.RunInterrupted})
	}
	if err := rec.lock.Release(); err != nil {
		t.Fatal(err)
	}
	return rec, serve(t, dir)
}

// goesOn is what fleetd resume does to the journal.
func (rec *recording) goesOn(dir string) {
	var err error
	if rec.lock, err = journal.Acquire(dir, runID); err == nil {
		rec.w, err = rec.journal.Continue(rec.t.Context(), runID)
	}
	if err != nil {
		rec.t.Error(err)
		return
	}
	rec.add(time.Second, rollout.Event{Type: rollout.RunResumed})
}

// TestResume: an operator has a run go on, and is told so when it does; its page has the
// button for it, to her alone.
func TestResume(t *testing.T) {
	rec, s := stopped(t, 5)
	var jobs []Job
	s.start = func(j Job) (<-chan error, error) {
		jobs = append(jobs, j)
		go rec.goesOn(s.store.dir)
		return make(chan error), nil
	}
	const path = "/runs/" + runID
	if w := post(s, "/api/v1"+path+"/resume", viewerSecret, ""); w.Code != http.StatusForbidden || len(jobs) > 0 {
		t.Fatalf("a viewer resumes: %d, %s", w.Code, w.Body)
	}
	for secret, want := range map[string]bool{viewerSecret: false, operatorSecret: true} {
		page := ask(s, request(http.MethodGet, path, secret, nil)).Body.String()
		if strings.Contains(page, `action="`+path+`/resume"`) != want {
			t.Errorf("the button: want %v\n%s", want, page)
		}
	}
	w := post(s, "/api/v1"+path+"/resume", operatorSecret, "")
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"answer":"resumed"`) {
		t.Fatalf("%d, %s", w.Code, w.Body)
	}
	if len(jobs) != 1 || jobs[0] != (Job{Run: runID}) {
		t.Errorf("started %+v", jobs)
	}
	if w := post(s, "/api/v1"+path+"/resume", operatorSecret, ""); w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "a process is at it") || len(jobs) != 1 {
		t.Errorf("twice: %d, %s", w.Code, w.Body)
	}
	if page := get(t, s, path).Body.String(); strings.Contains(page, "/resume") {
		t.Errorf("the button is still there: %s", page)
	}
}

// TestResumeInVain: why a run does not go on is said in the words of the fleetd that was
// to; what is over, or may not go on now, is not started at all.
func TestResumeInVain(t *testing.T) {
	const path = "/api/v1/runs/" + runID + "/resume"
	for name, c := range map[string]struct {
		steps   int
		prepare func(*Server)
		status  int
		says    string
		started int
	}{
		"it wants a password": {5, func(s *Server) {
			s.start = func(Job) (<-chan error, error) {
				ended := make(chan error, 1)
				ended <- errors.New("the become password of worker01 is asked for\ngive it with -K")
				return ended, nil
			}
		}, http.StatusConflict, `the become password of worker01 is asked for","hint":"give it with -K"`, 1},
		"it cannot be started": {5, func(s *Server) {
			s.start = func(Job) (<-chan error, error) { return nil, errors.New("no memory") }
		}, http.StatusInternalServerError, "no memory", 1},
		"it takes its time": {5, func(s *Server) {
			s.patience = time.Millisecond
			s.start = func(Job) (<-chan error, error) { return make(chan error), nil }
		}, http.StatusAccepted, `"answer":"pending"`, 1},
		"it is done": {1 << 30, nil, http.StatusConflict, "it is done", 0},
		"its window opens": {5, func(s *Server) {
			s.fleets = []*scheduled{prod(t)}
			nightly(t, s)
			s.now = func() time.Time { return began }
		}, http.StatusConflict, "the maintenance window of its fleet opens 2026-11-27 22:00 UTC", 0},
	} {
		t.Run(name, func(t *testing.T) {
			_, s := stopped(t, c.steps)
			started := 0
			s.start = nil
			if c.prepare != nil {
				c.prepare(s)
			}
			if start := s.start; start != nil {
				s.start = func(j Job) (<-chan error, error) { started++; return start(j) }
			}
			if w := post(s, path, operatorSecret, ""); w.Code != c.status || !strings.Contains(w.Body.String(), c.says) || started != c.started {
				t.Errorf("%d, %s; started %d", w.Code, w.Body, started)
			}
		})
	}
	s := serve(t, t.TempDir())
	if w := post(s, "/api/v1/runs/nothing/resume", operatorSecret, ""); w.Code != http.StatusNotFound {
		t.Errorf("%d, %s", w.Code, w.Body)
	}
}
