package view

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/pkg/rollout"
)

func TestProgressAndEnd(t *testing.T) {
	var screen bytes.Buffer
	out := NewOutput(&screen)
	p := NewProgress(out, Style{}, runID, time.Now)
	rec := halted(t, p.Watch)
	p.Close()
	End(out, Style{}, rec.run, next, nil)
	if err := out.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	golden(t, "progress.txt", screen.Bytes())
}

func TestEnds(t *testing.T) {
	full := errors.New("cannot use the journal: no space left on device")
	all := 1 << 30
	interrupted := record(t, fleet(), nil).play(31, well)
	interrupted.add(0, rollout.Event{Type: rollout.RunInterrupted})
	asked := func(v rollout.Verb) *rollout.Request {
		return &rollout.Request{ID: 7, Verb: v, By: rollout.Person{User: "anna", Host: "bastion1"}, Reason: "the storage\x1b[2J is slow"}
	}
	paused := record(t, fleet(), nil).play(31, well)
	paused.add(0, rollout.Event{Type: rollout.RunRequested, Request: asked(rollout.Pause)})
	paused.add(0, rollout.Event{Type: rollout.RunInterrupted})
	aborted := record(t, fleet(), nil).play(31, well)
	aborted.add(0, rollout.Event{Type: rollout.RunRequested, Request: asked(rollout.Abort)})
	aborted.add(0, rollout.Event{Type: rollout.RunHalted, Halt: &rollout.Halt{Reason: asked(rollout.Abort).String()}})
	undo, err := rollout.Reverse(runID, record(t, fleet(), nil).play(all, losing).run, []string{"worker01", "worker02", "n3"}, nil, rollout.Basis{})
	if err != nil {
		t.Fatal(err)
	}
	quorum := record(t, fleet(), nil).play(31, well)
	quorum.add(0, rollout.Event{Type: rollout.RunHalted, Halt: &rollout.Halt{Reason: "4 hosts are out of service, and max_unavailable is 3: n7 (is NotReady)"}})
	none := record(t, example(), nil).play(all, func(rollout.StepID, rollout.PlannedStep) rollout.Outcome {
		return rollout.Outcome{Kind: rollout.Unreachable, Message: "no route to host"}
	})
	for name, got := range map[string][]byte{
		"recap-unreachable.txt": ended(none.run, nil),
		"recap-done.txt":        ended(record(t, fleet(), nil).play(all, well).run, nil),
		"recap-lost.txt":        ended(record(t, fleet(), nil).play(all, losing).run, nil),
		"recap-halted.txt":      ended(record(t, example(), nil).play(all, well).run, nil),
		"recap-quorum.txt":      ended(quorum.run, nil),
		"recap-interrupted.txt": ended(interrupted.run, nil),
		"recap-paused.txt":      ended(paused.run, nil),
		"recap-aborted.txt":     ended(aborted.run, nil),
		"recap-journal.txt":     ended(record(t, fleet(), nil).play(31, losing).run, full),
		"recap-undo.txt":        ended(record(t, undo, nil).play(all, well).run, nil),
		"recap-nothing.txt":     append(ended(nil, full), ended(&rollout.Run{}, full)...),
	} {
		golden(t, name, got)
	}
}

// TestManyLost: forty hosts behind one dead switch are one thing to mend.
func TestManyLost(t *testing.T) {
	p := fleet()
	p.Plays[0].MaxUnavailable = 20
	rec := record(t, p, nil).play(1<<30, func(id rollout.StepID, s rollout.PlannedStep) rollout.Outcome {
		if id.Task == 1 && strings.HasPrefix(id.Host, "worker0") {
			return rollout.Outcome{Kind: rollout.Unreachable, Message: "cannot run yum on " + id.Host + ": connect: no route to host"}
		}
		return well(id, s)
	})
	got := string(ended(rec.run, nil))
	if n := strings.Count(got, "no route to host"); n != 1 {
		t.Errorf("one cause is told %d times:\n%s", n, got)
	}
	if !strings.Contains(got, "worker[01:09] (9 hosts)  Kernel package is installed: unreachable\n") {
		t.Errorf("the hosts are not named:\n%s", got)
	}
}

// TestEndNeverPanics ends a run of every state and every way to fail, as it stands
// after each of its events.
func TestEndNeverPanics(t *testing.T) {
	rec := halted(t, nil)
	for n := range len(rec.events) + 1 {
		r, err := rollout.Fold(rec.events[:n])
		if err != nil {
			t.Fatal(err)
		}
		for _, status := range []rollout.RunStatus{"", rollout.Running, rollout.Halted, rollout.Interrupted, rollout.Done} {
			for _, h := range []*rollout.Halt{nil, {}, {Play: 99, Batch: 99}} {
				r.Status, r.Halt = status, h
				for _, failed := range []error{nil, errors.New("disk full")} {
					for _, next := range []Next{{}, next} {
						End(&bytes.Buffer{}, Style{Colour: true}, r, next, failed)
					}
					recapOf(runID, r, failed)
				}
			}
		}
	}
}

func TestEvents(t *testing.T) {
	r := newReader()
	o := newOutput(r, false)
	ev := NewEvents(o)
	rec := record(t, fleet(), nil)
	ev.Watch(rec.run, rec.events[0])
	wait(t, r.at)
	id := rollout.StepID{Host: "n3"}
	kept := rollout.Intend("k", "<v>")
	for range mostWaiting {
		ev.Watch(rec.run, rollout.Event{Type: rollout.StepProgress, Step: &id, Text: "looking"})
	}
	ev.Watch(rec.run, rollout.Event{Type: rollout.StepIntended, Step: &id, Outcome: &kept})
	for range 5 {
		ev.Watch(rec.run, rollout.Event{Type: rollout.StepOperation, Step: &id, Operation: &rollout.Operation{}})
	}
	rec.play(1<<30, losing)
	ev.End(runID, rec.run, nil)
	lines := read(t, o, r)

	var types []string
	for _, l := range lines {
		var e struct{ Type string }
		if err := json.Unmarshal([]byte(l), &e); err != nil {
			t.Fatalf("%q: %v", l, err)
		}
		if len(types) == 0 || types[len(types)-1] != e.Type {
			types = append(types, e.Type)
		}
	}
	want := []string{"run.started", "output.left_out", "step.progress", "step.intended", "step.operation", "recap"}
	if d := cmp.Diff(want, types); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if want := `{"type":"output.left_out","lines":5}`; lines[1] != want {
		t.Errorf("%s, want %s", lines[1], want)
	}
	var got recap
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &got); err != nil {
		t.Fatal(err)
	}
	if got.Run != runID || got.Status != rollout.Done || got.Changes != 28*4+2+1 || len(got.Hosts) != 31 || got.Error != "" {
		t.Errorf("%+v", got)
	}
	wantHosts := map[string]tally{"worker01": {Changed: 4, OK: 1}, "n3": {Changed: 2, OK: 1, Failed: 1, NotDone: 1}, "n7": {OK: 1, Unreachable: 1, NotDone: 3}, "localhost": {Changed: 1}}
	for h, want := range wantHosts {
		if got.Hosts[h] != want {
			t.Errorf("%s: %+v, want %+v", h, got.Hosts[h], want)
		}
	}
	if len(got.Lost) != 2 || got.Lost[0].Host != "n3" || got.Lost[1].Kind != rollout.Unreachable {
		t.Errorf("lost: %+v", got.Lost)
	}
}

// TestProgressNeverWaits: a run whose watcher has stopped reading goes on.
func TestProgressNeverWaits(t *testing.T) {
	o, r := stopped(t, true)
	p := NewProgress(o, Style{}, runID, time.Now)
	rec := record(t, fleet(), p.Watch).play(1<<30, losing)
	p.Close()
	End(o, Style{}, rec.run, next, nil)
	got := strings.Join(read(t, o, r), "\n")
	for _, want := range []string{"n7  Kernel package is installed: unreachable", "Done, but 2 hosts were lost"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing", want)
		}
	}
}

// TestLiveLine goes by the run's clock, which starts again where it stood when
// another process resumes the run, and goes on between events.
func TestLiveLine(t *testing.T) {
	now := time.Unix(0, 0)
	var screen bytes.Buffer
	o := NewOutput(&screen)
	p := NewProgress(o, Style{}, runID, func() time.Time { return now })
	rec := record(t, fleet(), nil)
	id := rollout.StepID{Host: "n3"}
	rec.add(time.Second, rollout.Event{Type: rollout.StepStarted, Step: &id})
	other := rollout.StepID{Host: "n7"}
	rec.add(time.Second, rollout.Event{Type: rollout.StepStarted, Step: &other})
	rec.watch = p.Watch
	rec.at = rec.at.Add(time.Hour) // no fleetd ran
	rec.add(10*time.Second, rollout.Event{Type: rollout.RunResumed, Forks: 5})
	rec.add(0, rollout.Event{Type: rollout.StepStarted, Step: &other})
	rec.add(0, rollout.Event{Type: rollout.StepStarted, Step: &id})
	now = now.Add(5 * time.Second)
	if got, want := p.status(), fmt.Sprintf("0/%d steps, 2 hosts at work, longest n3 for 16s: Node is fit for the change", 30*5+1); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	ok := rollout.AlreadyDone("fit")
	rec.add(0, rollout.Event{Type: rollout.StepEnded, Step: &id, Outcome: &ok})
	now = now.Add(2 * time.Second)
	if got, want := p.status(), fmt.Sprintf("1/%d steps, 1 host at work, longest n7 for 12s: Node is fit for the change", 30*5+1); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	p.Close()
	if err := o.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(screen.String(), "resuming run "+runID+": 0 of 151 steps are over") {
		t.Errorf("%s", screen.String())
	}
}

func TestIndented(t *testing.T) {
	st := Style{Colour: true}
	if got, want := indented(st.bold("n1")+"  ", "one\x1b[31m\ntwo\n"), st.bold("n1")+"  one\n    two"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestTook(t *testing.T) {
	for d, want := range map[time.Duration]string{
		1500 * time.Millisecond: "1.5s", 12 * time.Second: "12s", 12 * time.Minute: "12m", 725 * time.Second: "12m5s",
		time.Hour: "1h", 2*time.Hour + 5*time.Minute: "2h5m", 10*time.Minute + 10*time.Second: "10m10s", time.Hour + 20*time.Second: "1h0m20s",
	} {
		if got := took(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
