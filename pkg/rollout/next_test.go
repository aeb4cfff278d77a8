package rollout

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// table builds a run from a small language, and asks Next.
//
//	plan:   one play per line: "strategy max_fail | batch hosts / batch hosts | tasks"
//	events: "h.t ok", "h.t failed", "h.t wait=10", "h.t started" (task from 1, in play p: "p:h.t")
//	want:   the ready steps, or "stop: reason", "finish", "wake +10"
func runOf(t *testing.T, plan, events string, controlPlane ...string) *Run {
	t.Helper()
	p := Plan{Schema: PlanSchema, ControlPlane: controlPlane}
	for line := range strings.Lines(plan) {
		f := strings.Split(strings.TrimSpace(line), "|")
		head := strings.Fields(f[0])
		play := PlannedPlay{Strategy: Strategy(head[0])}
		switch head[1] {
		case "-":
		case "fatal":
			play.AnyErrorsFatal = true
		default:
			var m float64
			if _, err := fmt.Sscan(head[1], &m); err != nil {
				t.Fatal(err)
			}
			play.MaxFailPercentage = &m
		}
		for b := range strings.SplitSeq(f[1], "/") {
			play.Batches = append(play.Batches, strings.Fields(b))
		}
		var tasks int
		if _, err := fmt.Sscan(f[2], &tasks); err != nil {
			t.Fatal(err)
		}
		for range tasks {
			steps := map[string]PlannedStep{}
			for _, b := range play.Batches {
				for _, h := range b {
					steps[h] = PlannedStep{Change: Change{Action: Update, Disruptive: true}}
				}
			}
			play.Tasks = append(play.Tasks, PlannedTask{Steps: steps})
		}
		p.Plays = append(p.Plays, play)
	}
	r := &Run{}
	apply := func(e Event) {
		t.Helper()
		if err := r.Apply(e); err != nil {
			t.Fatal(err)
		}
	}
	apply(Event{Type: RunStarted, Plan: &p, Forks: 5})
	for _, e := range strings.FieldsFunc(events, func(c rune) bool { return c == ',' }) {
		f := strings.Fields(e)
		id := StepID{Host: f[0][:strings.Index(f[0], ".")]}
		if pi, h, ok := strings.Cut(id.Host, ":"); ok {
			id.Play, id.Host = int(pi[0]-'1'), h
		}
		id.Task = int(f[0][len(f[0])-1] - '1')
		if st := r.Step(id); st == nil || !st.Active {
			apply(Event{Type: StepStarted, Step: &id})
		}
		switch what, arg, _ := strings.Cut(f[1], "="); what {
		case "started":
		case "ok":
			apply(Event{Type: StepEnded, Step: &id, Outcome: &Outcome{Kind: Changed}})
		case "failed":
			apply(Event{Type: StepEnded, Step: &id, Outcome: &Outcome{Kind: Failed}})
		case "wait":
			d, err := time.ParseDuration(arg)
			if err != nil {
				t.Fatal(err)
			}
			apply(Event{Type: StepEnded, Step: &id, Outcome: &Outcome{Kind: Waiting, After: d}})
		default:
			t.Fatalf("unknown event %q", e)
		}
	}
	return r
}

func decision(r *Run, now time.Time) string {
	d := Next(r, now)
	switch d.Verdict {
	case Stop:
		return "stop: " + d.Halt.Reason
	case Finish:
		return "finish"
	}
	var out []string
	for _, id := range d.Ready {
		s := fmt.Sprintf("%s.%d", id.Host, id.Task+1)
		if id.Play > 0 {
			s = fmt.Sprintf("%d:%s", id.Play+1, s)
		}
		out = append(out, s)
	}
	if !d.Wake.IsZero() {
		out = append(out, "wake +"+d.Wake.Sub(time.Time{}).String())
	}
	return strings.Join(out, " ")
}

func TestNext(t *testing.T) {
	for _, c := range []struct{ name, plan, events, want string }{
		{"linear keeps in step", "linear - | a b | 2", "a.1 ok, b.1 started", ""},
		{"linear goes on together", "linear - | a b | 2", "a.1 ok, b.1 ok", "a.2 b.2"},
		{"free goes on alone", "free - | a b | 2", "a.1 ok, b.1 started", "a.2"},
		{"next batch", "free 0 | a / b c | 1", "a.1 ok", "b.1 c.1"},
		{"next play", "free 0 | a | 1\nlinear - | a b | 1", "a.1 ok", "2:a.1 2:b.1"},
		{"all over", "free 0 | a | 1", "a.1 ok", "finish"},
		{"waits before it asks again", "free 0 | a | 1", "a.1 wait=10s", "wake +10s"},
		{"the other goes on meanwhile", "free 0 | a b | 2", "a.1 wait=10s, b.1 ok", "b.2 wake +10s"},
		{"the batch finishes before the gate", "free 0 | a b / c | 2", "a.1 failed, b.1 ok", "b.2"},
		{"gate", "free 0 | a b / c | 1", "a.1 failed, b.1 ok", "stop: 1 of 2 hosts of batch 1 failed, and max_fail_percentage is 0"},
		{"half is not more than 50 %", "free 50 | a b / c | 1", "a.1 failed, b.1 ok", "c.1"},
		{"half is more than 49 %", "free 49 | a b / c | 1", "a.1 failed, b.1 ok", "stop: 1 of 2 hosts of batch 1 failed, and max_fail_percentage is 49"},
		{"Ansible's default lets one fail", "linear - | a b / c | 1", "a.1 failed, b.1 ok", "c.1"},
		{"Ansible's default needs one left", "linear - | a b / c | 1", "a.1 failed, b.1 failed", "stop: 2 of 2 hosts of batch 1 failed, and no host of the batch is left"},
		{"any_errors_fatal waits for what runs", "linear fatal | a b | 2", "a.1 failed, b.1 started", ""},
		{"any_errors_fatal starts nothing more", "linear fatal | a b | 2", "a.1 failed, b.1 ok", "stop: 1 of 2 hosts of batch 1 failed, and any_errors_fatal is set"},
		{"a host lost earlier is not of the batch", "linear 50 | a b | 1\nlinear 40 | a b c | 1", "a.1 failed, b.1 ok, 2:b.1 failed, 2:c.1 ok", "stop: 1 of 2 hosts of batch 1 failed, and max_fail_percentage is 40"},
		{"a lost host is not asked in a later play", "linear 50 | a b | 1\nlinear - | a b | 1", "a.1 failed, b.1 ok", "2:b.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := decision(runOf(t, c.plan, c.events), time.Time{}); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestNextControlPlane(t *testing.T) {
	for _, c := range []struct{ name, plan, events, want string }{
		{"one at a time", "free 0 | m1 m2 w | 2", "", "m1.1 w.1"},
		{"until it is through with the play", "free 0 | m1 m2 w | 2", "m1.1 ok", "m1.2 w.1"},
		{"then the other", "free 0 | m1 m2 | 2", "m1.1 ok, m1.2 ok", "m2.1"},
		{"none after one was lost", "free 90 | m1 m2 | 2", "m1.1 failed", "stop: control-plane host m1 was lost while it was out of service; taking down m2 as well could cost the quorum"},
		{"nor in a later play", "free 90 | m1 w | 1\nfree 90 | m2 w | 1", "m1.1 failed, w.1 ok, 2:w.1 ok", "stop: control-plane host m1 was lost while it was out of service; taking down m2 as well could cost the quorum"},
		{"the workers of the batch finish first", "free 90 | m1 m2 w | 2", "m1.1 failed, w.1 ok", "w.2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := decision(runOf(t, c.plan, c.events, "m1", "m2"), time.Time{}); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestNextForks(t *testing.T) {
	r := runOf(t, "free - | a b c d e f g | 1", "a.1 started, b.1 started")
	if got := decision(r, time.Time{}); got != "c.1 d.1 e.1" {
		t.Errorf("5 forks, 2 taken: ready %q", got)
	}
}
