package server

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// nightly is a window of the fleet prod: from 22:00 to midnight, the last half hour of
// which no step begins.
func nightly(t testing.TB, s *Server) {
	t.Helper()
	s.fleets[0].Windows, s.fleets[0].Reserve = []Window{windowOf(t, "0 22 * * *", "UTC", 2*time.Hour)}, 30*time.Minute
}

// child is what fleetd apply --approved and fleetd resume --approved do to the journal, one
// write at a time. What it does not show is a process of its own: cmd/fleetd's scripts do.
type child struct {
	t       *testing.T
	dir     string
	now     func() time.Time
	job     Job
	byHand  bool
	journal *journal.Journal
	lock    *journal.Lock
	w       *journal.Writer
	run     *rollout.Run
	asked   bool
	over    bool
}

// die is what a SIGKILL leaves: the lock is free.
func (c *child) die() {
	c.over = true
	if c.lock != nil {
		_ = c.lock.Release() // its journal is closed at the end of the test
	}
}

func (c *child) add(e rollout.Event) {
	c.t.Helper()
	e.Seq, e.At, e.Clock = c.run.Seq+1, c.now(), c.run.Clock+time.Second
	if err := errors.Join(c.run.Apply(e), c.w.Append(c.t.Context(), []rollout.Event{e})); err != nil {
		c.t.Fatal(err)
	}
}

// step goes on by one thing that is in the journal then.
func (c *child) step() {
	c.t.Helper()
	late := !c.job.Until.IsZero() && !c.now().Before(c.job.Until)
	switch {
	case c.lock == nil:
		id := c.job.Run
		if id == "" {
			id = journal.NewID(c.now())
		}
		var err error
		if c.lock, err = journal.Acquire(c.dir, id); errors.Is(err, journal.ErrLocked) {
			c.die()
			return
		}
		if c.journal, err = journal.Open(c.dir); err != nil {
			c.t.Fatal(err)
		}
		c.t.Cleanup(func() { _ = c.journal.Close() }) // the process ends anyway
		if c.job.Run == "" {
			c.job.Run = id
			c.run = &rollout.Run{}
			return
		}
		if c.run, err = c.journal.Run(c.t.Context(), id); err != nil {
			c.t.Fatal(err)
		}
	case c.w == nil && late:
		c.die()
	case c.w == nil && c.run.Seq == 0:
		_, plan, err := c.journal.Proposal(c.t.Context(), c.job.Proposal)
		if err != nil {
			c.t.Fatal(err)
		}
		if c.w, err = c.journal.BeginApproved(c.t.Context(), c.job.Run, c.now(), []byte("{}"), c.job.Proposal, plan.Digest); errors.Is(err, journal.ErrNotApproved) {
			c.die()
			return
		} else if err != nil {
			c.t.Fatal(err)
		}
		c.add(rollout.Event{Type: rollout.RunStarted, Plan: plan, Forks: 1})
	case c.w == nil:
		all, err := c.journal.WaitingRuns(c.t.Context())
		if err != nil {
			c.t.Fatal(err)
		}
		if len(all) == 0 && !c.byHand {
			c.die()
			return
		}
		if c.w, err = c.journal.Continue(c.t.Context(), c.job.Run); err != nil {
			c.t.Fatal(err)
		}
		c.add(rollout.Event{Type: rollout.RunResumed})
	case late && !c.asked:
		c.asked = true
		if _, err := c.journal.Ask(c.t.Context(), c.job.Run, rollout.Request{Verb: rollout.Pause, By: rollout.Window, At: c.now()}); err != nil {
			c.t.Fatal(err)
		}
	default:
		c.work()
	}
}

// work begins a step and ends it, or ends the run.
func (c *child) work() {
	c.t.Helper()
	requests, err := c.w.Requests(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	if len(requests) > 0 {
		c.add(rollout.Event{Type: rollout.RunRequested, Request: &requests[0]})
		return
	}
	switch d := rollout.Next(c.run, c.run.Clock); d.Verdict {
	case rollout.Leave:
		c.add(rollout.Event{Type: rollout.RunInterrupted})
		c.die()
	case rollout.Finish:
		c.add(rollout.Event{Type: rollout.RunDone})
		c.die()
	default:
		id := d.Ready[0]
		did := rollout.Did("did it")
		if s, _ := c.run.Plan.Step(id); !s.Change.Action.Writes() {
			did = rollout.AlreadyDone("fit")
		}
		attempt := 1
		if s := c.run.Step(id); s != nil {
			attempt = s.Attempts + 1
		}
		c.add(rollout.Event{Type: rollout.StepStarted, Step: &id, Attempt: attempt})
		c.add(rollout.Event{Type: rollout.StepEnded, Step: &id, Attempt: attempt, Outcome: &did})
	}
}

// TestKilledInWindows kills what carries a plan out at each point of its way, and each
// time another of two servers looks what is to be done: the run begins once, no step
// begins outside a window, each window pauses it once and the next goes on with it, and it
// comes to its end. Where its process died in the middle a person goes on with it.
func TestKilledInWindows(t *testing.T) {
	for kill := 0; ; kill++ {
		if points := inWindows(t, kill); points <= kill {
			t.Logf("killed at each of %d points", points)
			return
		}
	}
}

func inWindows(t *testing.T, kill int) (points int) {
	t.Helper()
	dir := t.TempDir()
	now := time.Date(2026, 11, 27, 20, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	var children []*child
	servers := [2]*Server{}
	for i := range servers {
		servers[i], _ = approving(t, dir)
		nightly(t, servers[i])
		servers[i].now = clock
		servers[i].start = func(job Job) (<-chan error, error) {
			ended := make(chan error)
			close(ended)
			if points++; points-1 == kill { // the server dies on the way
				return ended, nil
			}
			children = append(children, &child{t: t, dir: dir, now: clock, job: job})
			return ended, nil
		}
	}
	p := proposalOf(t, post(servers[0], "/api/v1/proposals", operatorSecret, planFile(t, fleet(2))), http.StatusCreated)
	proposalOf(t, post(servers[1], "/api/v1/proposals/1/approve", approverSecret, `{"digest": "`+p.Digest+`"}`), http.StatusOK)
	j, err := journal.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	window := servers[0].fleets[0].Fleet
	byHand := false
	for end := now.Add(7 * 24 * time.Hour); ; now = now.Add(10 * time.Minute) {
		if now.After(end) {
			t.Fatalf("killed at point %d, it is not done after a week", kill)
		}
		for _, s := range servers {
			if err := s.carryOut(t.Context(), map[int64]beginning{}); err != nil {
				t.Fatal(err)
			}
		}
		going := false
		for _, c := range children {
			if c.over {
				continue
			}
			if points++; points-1 == kill {
				c.die()
				continue
			}
			before := int64(0)
			if c.run != nil {
				before = c.run.Seq
			}
			c.step()
			if c.run != nil && c.run.Seq == before+2 && !c.byHand && !window.window(now).open(now) {
				t.Fatalf("killed at point %d, a step begins at %v", kill, now)
			}
			going = going || !c.over
		}
		heads, err := j.Heads(t.Context())
		if err != nil || len(heads) > 1 {
			t.Fatalf("killed at point %d: %v, %v", kill, heads, err)
		}
		if len(heads) == 0 || heads[0].Seq == 0 {
			continue
		}
		r, err := j.Run(t.Context(), heads[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		if r.Status == rollout.Done {
			break
		}
		if r.Status == rollout.Running && !going { // it was cut off
			byHand = true
			children = append(children, &child{t: t, dir: dir, now: clock, job: Job{Run: heads[0].ID}, byHand: true})
		}
	}
	heads, err := j.Heads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	events, err := j.Events(t.Context(), heads[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	var lives, pauses int
	for i, e := range events {
		switch e.Type {
		case rollout.RunStarted, rollout.RunResumed:
			if lives, pauses = lives+1, 0; e.Type == rollout.RunResumed && !byHand && events[i-1].Type != rollout.RunInterrupted {
				t.Errorf("killed at point %d, it goes on after %s", kill, events[i-1].Type)
			}
		case rollout.RunRequested:
			if pauses++; pauses > 1 {
				t.Errorf("killed at point %d, one life was paused twice", kill)
			}
		}
	}
	if lives != 2 && !byHand {
		t.Errorf("killed at point %d, it was begun and gone on with %d times", kill, lives)
	}
	return points
}

// paused is the run of a plan of prod that its window has paused.
func paused(t *testing.T, dir string) (s *Server, j *journal.Journal, now *time.Time, st *starter) {
	t.Helper()
	s, now = approving(t, dir)
	nightly(t, s)
	*now = time.Date(2026, 11, 27, 22, 0, 0, 0, time.UTC)
	st = &starter{}
	s.start = st.start
	p := proposalOf(t, post(s, "/api/v1/proposals", operatorSecret, planFile(t, fleet(2))), http.StatusCreated)
	proposalOf(t, post(s, "/api/v1/proposals/1/approve", approverSecret, `{"digest": "`+p.Digest+`"}`), http.StatusOK)
	c := &child{t: t, dir: dir, now: s.now, job: Job{Proposal: 1, Until: now.Add(time.Hour)}}
	for ; !c.over; *now = now.Add(20 * time.Minute) {
		c.step()
	}
	j, err := journal.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() }) // some tests have closed it
	return s, j, now, st
}

func nextEvening(now *time.Time) { *now = time.Date(2026, 11, 28, 22, 0, 0, 0, time.UTC) }

// TestResumeInWindow: tries are bounded, and counted where whichever server looks finds
// them; a run that waits says when it goes on.
func TestResumeInWindow(t *testing.T) {
	dir := t.TempDir()
	s, j, now, st := paused(t, dir)
	run := waitingOf(t, j)
	if w := get(t, s, "/api/v1/runs/"+run); !strings.Contains(w.Body.String(), `"resumes_at":"2026-11-28T22:00:00Z"`) {
		t.Errorf("%s", w.Body)
	}
	nextEvening(now)
	for range 200 { // more than there are minutes in the window
		if err := s.carryOut(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		*now = now.Add(time.Minute)
	}
	if len(st.began) != 7 {
		t.Errorf("begun %d times", len(st.began))
	}
	for range 3 {
		*now = now.Add(24 * time.Hour)
		if err := s.carryOut(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(st.began) != mostResumptions {
		t.Errorf("begun %d times", len(st.began))
	}
	if w := get(t, s, "/api/v1/runs/"+run); strings.Contains(w.Body.String(), "resumes_at") {
		t.Errorf("%s", w.Body)
	}
}

// TestResumeBeforeOthers: while a run is to go on, also between two tries that came to
// nothing, no other plan begins on its fleet: then nobody would go on with it.
func TestResumeBeforeOthers(t *testing.T) {
	s, _, now, st := paused(t, t.TempDir())
	nextEvening(now)
	p := proposalOf(t, post(s, "/api/v1/proposals", operatorSecret, planFile(t, fleet(4))), http.StatusCreated)
	proposalOf(t, post(s, fmt.Sprintf("/api/v1/proposals/%d/approve", p.ID), approverSecret, `{"digest": "`+p.Digest+`"}`), http.StatusOK)
	started := map[int64]beginning{}
	for range 20 {
		if err := s.carryOut(t.Context(), started); err != nil {
			t.Fatal(err)
		}
		*now = now.Add(10 * time.Second)
	}
	if got := fmt.Sprint(st.began); got != "[1 1 1]" {
		t.Errorf("begun %s", got)
	}
}

func waitingOf(t *testing.T, j *journal.Journal) string {
	t.Helper()
	all, err := j.WaitingRuns(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("%v, %v", all, err)
	}
	return all[0].Run
}

// TestNotResumed: what somebody wants to stay stays, and so does a run of a fleet on which
// something else was done since, or that has no windows any more.
func TestNotResumed(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T, *Server, *journal.Journal, string, string){
		"it is paused": func(t *testing.T, s *Server, _ *journal.Journal, _, run string) {
			if w := post(s, "/api/v1/runs/"+run+"/pause", operatorSecret, `{"reason": "not tonight"}`); w.Code != http.StatusOK {
				t.Fatalf("%d, %s", w.Code, w.Body)
			}
		},
		"another run of the fleet": func(t *testing.T, _ *Server, _ *journal.Journal, dir, _ string) {
			rec := recordRun(t, dir, "20261128-100000-0001", fleet(2))
			rec.play(1<<30, nil)
			if err := rec.lock.Release(); err != nil {
				t.Fatal(err)
			}
		},
		"it is taken back": func(t *testing.T, _ *Server, _ *journal.Journal, dir, run string) {
			p := fleet(2)
			p.Undoes, p.Source.Inventories = run, []string{"other.yaml"}
			if err := recordRun(t, dir, "20261128-100000-0001", p).lock.Release(); err != nil {
				t.Fatal(err)
			}
		},
		"no windows":        func(_ *testing.T, s *Server, _ *journal.Journal, _, _ string) { s.fleets[0].Windows = nil },
		"the fleet is gone": func(_ *testing.T, s *Server, _ *journal.Journal, _, _ string) { s.fleets[0].Inventory = "other.yaml" },
		"another run goes on": func(t *testing.T, _ *Server, _ *journal.Journal, dir, _ string) {
			p := fleet(2)
			p.Source.Inventories = []string{"other.yaml"}
			recordRun(t, dir, "20261128-100000-0001", p)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, j, now, st := paused(t, dir)
			nextEvening(now)
			prepare(t, s, j, dir, waitingOf(t, j))
			if err := s.carryOut(t.Context(), map[int64]beginning{}); err != nil || len(st.began) > 0 {
				t.Errorf("%v, %v", st.began, err)
			}
		})
	}
}

// TestBeginInWindow: an approved plan waits for its window, holds up no other meanwhile,
// and says when it begins.
func TestBeginInWindow(t *testing.T) {
	dir := t.TempDir()
	s, now := approving(t, dir) // at 2:10
	nightly(t, s)
	other := prod(t)
	other.Name, other.Inventory = "other", "other.yaml"
	s.fleets = append(s.fleets, other)
	st := &starter{}
	s.start = st.start
	plan := fleet(3)
	plan.Source.Inventories = []string{"other.yaml"}
	for id, plan := range []string{planFile(t, plan), planFile(t, fleet(3))} {
		p := proposalOf(t, post(s, "/api/v1/proposals", operatorSecret, plan), http.StatusCreated)
		path := fmt.Sprintf("/api/v1/proposals/%d/approve", id+1)
		// What is read of one plan is not taken for that of another.
		if w := post(s, "/api/v1/proposals/1/approve", approverSecret, `{"digest": "`+digestOf(t, planFile(t, fleet(3)))+`"}`); w.Code != http.StatusConflict {
			t.Errorf("%d, %s", w.Code, w.Body)
		}
		proposalOf(t, post(s, path, approverSecret, `{"digest": "`+p.Digest+`"}`), http.StatusOK)
	}
	started := map[int64]beginning{}
	look := func(want string) {
		t.Helper()
		if err := s.carryOut(t.Context(), started); err != nil || fmt.Sprint(st.began) != want {
			t.Errorf("started %v, %v; want %s", st.began, err, want)
		}
	}
	opens := time.Date(2026, 11, 27, 22, 0, 0, 0, time.UTC)
	p := proposalOf(t, get(t, s, "/api/v1/proposals/2"), http.StatusOK)
	if p.State != "approved" || !p.BeginsAt.Equal(opens) || !p.ApprovedUntil.Equal(opens.Add(time.Hour)) {
		t.Errorf("%+v", p)
	}
	if p := proposalOf(t, get(t, s, "/api/v1/proposals/1"), http.StatusOK); !p.BeginsAt.IsZero() || !p.ApprovedUntil.Equal(now.Add(time.Hour)) {
		t.Errorf("%+v", p)
	}
	cookie := postForm(s, "/login", url.Values{"token": {viewerSecret}}).Result().Cookies()[0]
	for _, path := range []string{"/proposals/2", "/proposals"} {
		if w := withCookie(s, path, cookie); !strings.Contains(w.Body.String(), opens.Local().Format("15:04")) {
			t.Errorf("%s does not say when it begins: %s", path, w.Body)
		}
	}
	look("[1]")
	*now = opens.Add(-time.Second)
	look("[1]")
	*now = opens
	look("[1 2]")
	if p := proposalOf(t, get(t, s, "/api/v1/proposals/2"), http.StatusOK); !p.BeginsAt.IsZero() {
		t.Errorf("%+v", p)
	}
}
