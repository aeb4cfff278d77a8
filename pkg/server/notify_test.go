package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/notify"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// receiver stands in for a webhook. What it does not show is the network, which
// pkg/notify tests.
type receiver struct {
	mu    sync.Mutex
	got   []notify.Event
	at    []time.Time
	fails error
	// during is what happens while it is told.
	during func()
}

func (r *receiver) send(_ context.Context, e notify.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = append(r.at, time.Now())
	if r.during != nil {
		r.during()
	}
	if r.fails == nil {
		r.got = append(r.got, e)
	}
	return r.fails
}

func (r *receiver) set(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fails = err
}

// told are the kinds that it was told.
func (r *receiver) told() (out []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.got {
		out = append(out, string(e.Kind))
	}
	return out
}

func (r *receiver) last() notify.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got[len(r.got)-1]
}

// notifying begins to tell r what happens in dir, until stop.
func notifying(t *testing.T, dir string, r *receiver, kinds ...notify.Kind) (n *notifier, stop func()) {
	t.Helper()
	n = &notifier{
		dir: dir, now: time.Now, log: slog.New(slog.NewTextHandler(io.Discard, nil)), failures: make(chan notify.Event, mostFailures),
		see:   func(id string, _ *rollout.Run) string { return "fleetd runs show " + id },
		hooks: []*hook{{Webhook: notify.Webhook{Name: "ops", Events: kinds}, send: r.send}},
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { n.run(ctx) })
	return n, func() { cancel(); wg.Wait() }
}

func step(rec *recording, task int, host string, kind rollout.OutcomeKind, message string) {
	id := rollout.StepID{Play: 0, Task: task, Host: host}
	rec.add(time.Second, rollout.Event{Type: rollout.StepStarted, Step: &id})
	rec.add(time.Second, rollout.Event{Type: rollout.StepEnded, Step: &id, Outcome: &rollout.Outcome{Kind: kind, Message: message}})
}

func soon() { time.Sleep(10 * time.Second) }

// TestNotifyRun: what happens to a run is told in its order, once, whoever is killed
// meanwhile; what was there before is not, and nothing that a node has said.
func TestNotifyRun(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		old := recordRun(t, dir, "20261126-000000-aaaa", fleet(4))
		_ = old.lock.Release()
		r := &receiver{}
		_, stop := notifying(t, dir, r)
		soon()
		if got := r.told(); len(got) != 0 {
			t.Errorf("told of what was before: %v", got)
		}
		rec := recordRun(t, dir, "20261127-000000-bbbb", fleet(4))
		soon()
		if e := r.last(); e.Kind != notify.RunStarted || e.Title != "Run 20261127-000000-bbbb was begun by anna@bastion1: playbooks/site.yml (built in) on 5 hosts" || e.See != "fleetd runs show 20261127-000000-bbbb" {
			t.Errorf("%+v", e)
		}
		stop() // what follows, nobody sees
		step(rec, 0, "worker01", rollout.Failed, "password=hunter2")
		rec.add(time.Second, rollout.Event{Type: rollout.RunHalted, Halt: &rollout.Halt{Reason: "hunter2", Hosts: []string{"worker01"}}})
		_, stop = notifying(t, dir, r)
		soon()
		if got := r.told(); !slices.Equal(got, []string{"run.started", "node.lost", "run.halted"}) {
			t.Errorf("told %v", got)
		}
		if e := r.got[1]; !slices.Equal(e.Hosts, []string{"worker01"}) || e.Severity != "critical" || e.ID == r.got[2].ID {
			t.Errorf("%+v", e)
		}
		if all := fmt.Sprintf("%+v", r.got); strings.Contains(all, "hunter2") {
			t.Errorf("what a node has said is told: %s", all)
		}
		stop()
		_, stop = notifying(t, dir, r)
		soon()
		stop()
		if got := r.told(); len(got) != 3 {
			t.Errorf("told again: %v", got)
		}
	})
}

// TestNotifyCutOff: a run whose fleetd died is told once, one that goes on is not.
func TestNotifyCutOff(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{}
		_, stop := notifying(t, dir, r, notify.RunInterrupted)
		soon()
		rec := recordRun(t, dir, "20261127-000000-bbbb", fleet(4))
		time.Sleep(time.Minute)
		if got := r.told(); len(got) != 0 {
			t.Errorf("told %v", got)
		}
		if err := rec.lock.Release(); err != nil { // as the end of a process does
			t.Fatal(err)
		}
		soon()
		stop()
		_, stop = notifying(t, dir, r, notify.RunInterrupted)
		soon()
		stop()
		if got := r.told(); !slices.Equal(got, []string{"run.interrupted"}) || !strings.Contains(r.last().Title, "was cut off") {
			t.Errorf("told %v", got)
		}
	})
}

// TestNotifyRetries: what is not taken is sent again, less and less often, before what
// came later; the page and the metrics tell of it.
func TestNotifyRetries(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{}
		n, stop := notifying(t, dir, r)
		soon()
		r.set(&notify.Busy{Status: 503})
		rec := recordRun(t, dir, "20261127-000000-bbbb", fleet(4))
		rec.add(time.Second, rollout.Event{Type: rollout.RunInterrupted})
		time.Sleep(11 * time.Minute)
		for i, at := range r.at[1:] {
			if got, want := at.Sub(r.at[i]), notify.Backoff(i+1, nil); got != want {
				t.Errorf("try %d comes after %v, want %v", i+2, got, want)
			}
		}
		if len(r.at) != 8 {
			t.Errorf("%d tries within eleven minutes", len(r.at))
		}
		s := serve(t, dir)
		s.notifier = n
		asked := httptest.NewRecorder()
		newMetrics(s).serve(asked, request(http.MethodGet, "/metrics", "", nil))
		metrics := asked.Body.String()
		const untold = "The webhook ops takes no notifications since 2000-01-01 00:00 UTC: the server answered with status 503 (2 wait)"
		if page := get(t, s, "/").Body.String(); !strings.Contains(page, untold) {
			t.Errorf("the page does not say %q", untold)
		}
		for _, want := range []string{`fleetd_notifications_waiting{webhook="ops"} 2`, `fleetd_notification_failures_total{webhook="ops"} 8`, `fleetd_notifications_sent_total{webhook="ops"} 0`, "fleetd_notifications_sending 1"} {
			if !strings.Contains(metrics, want) {
				t.Errorf("metrics do not say %q", want)
			}
		}
		r.set(nil)
		time.Sleep(11 * time.Minute)
		if got := r.told(); !slices.Equal(got, []string{"run.started", "run.interrupted"}) {
			t.Errorf("told %v", got)
		}
		if text := get(t, s, "/").Body.String(); strings.Contains(text, "takes no notifications") {
			t.Error("the page still speaks of it")
		}
		stop()
	})
}

// TestNotifyDrops: what is refused, and what was tried often enough, holds up nothing
// and is not forgotten.
func TestNotifyDrops(t *testing.T) {
	j, err := journal.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	ctx := t.Context()
	r := &receiver{fails: &notify.Refused{Status: 400}}
	h := &hook{Webhook: notify.Webhook{Name: "ops"}, send: r.send}
	n := &notifier{now: time.Now, log: slog.New(slog.NewTextHandler(io.Discard, nil)), journal: j, hooks: []*hook{h}}
	notice := journal.Notice{Webhook: "ops", Body: []byte(`{"id": "x", "event": "run.done"}`)}
	if err := j.Tell(ctx, nil, []journal.Notice{notice, {Webhook: "ops", Body: []byte("{")}, notice}, time.Now()); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second is damaged
		if wait, err := n.next(ctx, j, h); wait != 0 || err != nil {
			t.Error(wait, err)
		}
	}
	r.set(errors.New("gone"))
	for i := range notify.MostTries - 1 {
		if wait, err := n.next(ctx, j, h); wait != notify.Backoff(i+1, nil) || err != nil {
			t.Fatal(i, wait, err)
		}
	}
	if q, err := j.Queue(ctx, "ops"); err != nil || q.Dropped != 2 || q.Waiting != 1 {
		t.Errorf("%+v, %v", q, err)
	}
	if wait, err := n.next(ctx, j, h); wait != 0 || err != nil {
		t.Error(wait, err)
	}
	if q, err := j.Queue(ctx, "ops"); err != nil || q.Dropped != 3 || q.Waiting != 0 || q.Why != "gone" {
		t.Errorf("%+v, %v", q, err)
	}
	if got := n.untold(ctx); len(got) != 1 || !strings.Contains(got[0], "was never told of 3 events") || !strings.HasSuffix(got[0], ": gone") {
		t.Errorf("%q", got)
	}
}

// TestNotifyKilled: who is killed between the sending and the record of it sends the
// same again, and who cannot write does not.
func TestNotifyKilled(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		j, err := journal.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		if err := j.Tell(t.Context(), []journal.Mark{{Source: begun, Seq: 1}}, []journal.Notice{{Webhook: "ops", Body: []byte(`{"id": "x", "event": "run.done"}`)}}, time.Now()); err != nil {
			t.Fatal(err)
		}
		r := &receiver{}
		h := &hook{Webhook: notify.Webhook{Name: "ops"}, send: r.send}
		n := &notifier{now: time.Now, log: slog.New(slog.NewTextHandler(io.Discard, nil))}
		// The file is closed under it: as good as killed, and as a disk that is full.
		other, err := journal.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		r.during = func() { _ = other.Close() }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { _, err := n.next(ctx, other, h); done <- err }()
		time.Sleep(time.Hour)
		if got := r.told(); len(got) != 1 {
			t.Errorf("sent %d times while it could not be written down", len(got))
		}
		cancel()
		if err := <-done; err == nil {
			t.Error("it was written into a file that is closed")
		}
		r.during = nil
		if _, err := n.next(t.Context(), j, h); err != nil {
			t.Error(err)
		}
		if got := r.got; len(got) != 2 || got[0].ID != got[1].ID {
			t.Errorf("sent %+v", got)
		}
		if w, err := j.Waiting(t.Context(), "ops"); w != nil || err != nil {
			t.Errorf("%+v, %v", w, err)
		}
	})
}

// TestNotifyTwo: of two servers on one journal one tells.
func TestNotifyTwo(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		first, second := &receiver{}, &receiver{}
		_, stop := notifying(t, dir, first)
		soon()
		n, stopSecond := notifying(t, dir, second)
		soon()
		recordRun(t, dir, "20261127-000000-bbbb", fleet(4))
		time.Sleep(time.Minute)
		if a, b := first.told(), second.told(); len(a) != 1 || len(b) != 0 {
			t.Errorf("told %v and %v", a, b)
		}
		if got := n.untold(t.Context()); len(got) != 1 || !strings.Contains(got[0], "another process sends the notifications") {
			t.Errorf("%q", got)
		}
		stop()
		n.lookFailed("prod", time.Now())
		time.Sleep(time.Minute)
		stopSecond()
		if got := second.told(); !slices.Equal(got, []string{"compliance.failed"}) {
			t.Errorf("who takes over told %v", got)
		}
	})
}

func TestCompared(t *testing.T) {
	ruling := func(host, status string) rollout.Ruling {
		return rollout.Ruling{Host: host, Policy: "up", Rule: "uptime", Status: status}
	}
	l := journal.Look{Name: "l2", Fleet: "f", Schedule: "prod", Hosts: 3}
	for name, c := range map[string]struct {
		before, after []rollout.Ruling
		kind          notify.Kind
		title         string
	}{
		"nothing":            {[]rollout.Ruling{ruling("a", "drift")}, []rollout.Ruling{ruling("a", "drift")}, "", ""},
		"drift":              {[]rollout.Ruling{ruling("a", "compliant"), ruling("b", "drift")}, []rollout.Ruling{ruling("a", "drift"), ruling("b", "compliant")}, notify.ComplianceWorse, "Fleet prod: policies are not met any more, or cannot be judged on a; 1 of 3 hosts do not meet all"},
		"not known":          {[]rollout.Ruling{ruling("a", "compliant")}, []rollout.Ruling{ruling("a", "unknown")}, notify.ComplianceWorse, "on a; 1 of"},
		"the first report":   {nil, []rollout.Ruling{ruling("a", "drift"), ruling("b", "compliant")}, notify.ComplianceWorse, "on a; 1 of"},
		"mended":             {[]rollout.Ruling{ruling("a", "drift")}, []rollout.Ruling{ruling("a", "compliant")}, notify.ComplianceBetter, "met again on a; 0 of"},
		"excused":            {[]rollout.Ruling{ruling("a", "drift")}, []rollout.Ruling{ruling("a", "waived")}, notify.ComplianceBetter, "met again on a"},
		"known, and no good": {[]rollout.Ruling{ruling("a", "unknown")}, []rollout.Ruling{ruling("a", "drift")}, "", ""},
		"gone":               {[]rollout.Ruling{ruling("a", "drift")}, nil, "", ""},
	} {
		got := compared(l, c.before, c.after)
		if (len(got) > 0) != (c.kind != "") || len(got) > 0 && (got[0].Kind != c.kind || !strings.Contains(got[0].Title, c.title) || got[0].Fleet != "prod") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestNotifyCompliance: a report is compared with the last that was told of.
func TestNotifyCompliance(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		recordLook(t, dir, look{schedule: "prod", at: time.Now()})
		r := &receiver{}
		_, stop := notifying(t, dir, r)
		soon()
		recordLook(t, dir, look{schedule: "prod", at: time.Now()})
		soon()
		if got := r.told(); len(got) != 0 {
			t.Errorf("told %v, and nothing has changed", got)
		}
		recordLook(t, dir, look{schedule: "prod", at: time.Now(), hosts: map[string]string{"worker01": "drift", "worker02": "compliant", "worker03": "compliant"}})
		soon()
		if e := r.last(); e.Kind != notify.ComplianceBetter || !slices.Equal(e.Hosts, []string{"worker02"}) {
			t.Errorf("%+v", e)
		}
		stop() // what comes to two looks meanwhile is told in one
		recordLook(t, dir, look{schedule: "prod", at: time.Now(), hosts: map[string]string{"worker01": "drift", "worker02": "drift", "worker03": "compliant"}})
		time.Sleep(time.Hour)
		recordLook(t, dir, look{schedule: "prod", at: time.Now(), hosts: map[string]string{"worker01": "drift", "worker02": "drift", "worker03": "drift"}})
		_, stop = notifying(t, dir, r)
		soon()
		stop()
		if e := r.last(); e.Kind != notify.ComplianceWorse || !slices.Equal(e.Hosts, []string{"worker02", "worker03"}) || len(r.got) != 2 {
			t.Errorf("%+v", r.got)
		}
	})
}

// TestNotifyAsked: who has paused a run, or ended it for good, is told, and not why.
func TestNotifyAsked(t *testing.T) {
	for verb, c := range map[rollout.Verb]struct {
		end  rollout.Event
		want string
	}{
		rollout.Pause: {rollout.Event{Type: rollout.RunInterrupted}, "was paused by otto@bastion2, and can be resumed"},
		rollout.Abort: {rollout.Event{Type: rollout.RunHalted, Halt: &rollout.Halt{Reason: "hunter2"}}, "was aborted by otto@bastion2 in play 1, batch 1"},
	} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			r := &receiver{}
			_, stop := notifying(t, dir, r)
			soon()
			rec := recordRun(t, dir, runID, fleet(4))
			rec.add(time.Second, rollout.Event{Type: rollout.RunRequested, Request: &rollout.Request{ID: 1, Verb: verb, By: rollout.Person{User: "otto", Host: "bastion2"}, Reason: "hunter2"}})
			rec.add(time.Second, c.end)
			soon()
			stop()
			if e := r.last(); e.Title != "Run "+runID+" "+c.want {
				t.Errorf("%s: %+v", verb, e)
			}
			if all := fmt.Sprintf("%+v", r.got); strings.Contains(all, "hunter2") {
				t.Errorf("the reason is told: %s", all)
			}
		})
	}
}

// TestNotifyPlan: that a plan waits for an approval is told once, and again where it
// was approved and could not be begun.
func TestNotifyPlan(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		j, err := journal.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		propose := func(hosts int) journal.Proposal {
			plan := fleet(hosts)
			if err := plan.Seal(); err != nil {
				t.Fatal(err)
			}
			p, err := j.Propose(t.Context(), &plan, "otto", time.Now(), time.Now().Add(time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		propose(2) // before anybody was to be told
		r := &receiver{}
		_, stop := notifying(t, dir, r)
		soon()
		p := propose(3)
		soon()
		soon()
		if e := r.last(); len(r.got) != 1 || e.Kind != notify.PlanWaiting || e.Title != "Plan 2, proposed by otto, waits for an approval" || e.See != "/proposals/2 of fleetd serve" {
			t.Errorf("%+v", r.got)
		}
		if _, err := j.Approve(t.Context(), p.ID, p.Digest, "anna", time.Now(), time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		soon()
		stop()
		if err := j.Refuse(t.Context(), p.ID, "worker01 has moved"); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second has nothing to tell
			_, stop = notifying(t, dir, r)
			soon()
			stop()
		}
		if e := r.last(); len(r.got) != 2 || e.ID == r.got[0].ID || e.Title != "Plan 2, proposed by otto, could not be begun, and waits for an approval again" {
			t.Errorf("%+v", r.got)
		}
	})
}
