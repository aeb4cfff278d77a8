package rollout

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// table builds a run from a small language, and asks Next.
//
//	plan:   one play per line: "strategy max_fail [max_unavailable] | batch hosts / batch hosts | tasks"
//	events: "h down" (before the run), "h.t ok", "h.t failed", "h.t wait=10", "h.t started" (task from 1, in play p: "p:h.t")
//	want:   the ready steps, or "stop: reason", "finish", "wake +10"
func runOf(t *testing.T, plan, events string, controlPlane ...string) *Run {
	t.Helper()
	p := Plan{Schema: PlanSchema, ControlPlane: ControlPlane{Hosts: controlPlane}}
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
		if len(head) > 2 {
			if _, err := fmt.Sscan(head[2], &play.MaxUnavailable); err != nil {
				t.Fatal(err)
			}
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
			play.Tasks = append(play.Tasks, PlannedTask{Name: fmt.Sprint("step ", len(play.Tasks)+1), Steps: steps})
		}
		p.Plays = append(p.Plays, play)
	}
	for e := range strings.SplitSeq(events, ",") {
		if h, ok := strings.CutSuffix(strings.TrimSpace(e), " down"); ok {
			if p.Down == nil {
				p.Down = map[string]string{}
			}
			p.Down[h] = "is unreachable"
		}
	}
	r := &Run{}
	apply := func(e Event) {
		t.Helper()
		e.Seq, e.Clock = r.Seq+1, r.Clock
		if err := r.Apply(e); err != nil {
			t.Fatal(err)
		}
	}
	apply(Event{Type: RunStarted, Plan: &p, Forks: 5})
	for _, e := range strings.FieldsFunc(events, func(c rune) bool { return c == ',' }) {
		f := strings.Fields(e)
		if f[1] == "down" {
			continue
		}
		id := StepID{Host: f[0][:strings.Index(f[0], ".")]}
		if pi, h, ok := strings.Cut(id.Host, ":"); ok {
			id.Play, id.Host = int(pi[0]-'1'), h
		}
		id.Task = int(f[0][len(f[0])-1] - '1')
		attempt := 1
		if st := r.Step(id); st != nil {
			attempt = st.Attempts + 1
		}
		if st := r.Step(id); st == nil || !st.Active {
			apply(Event{Type: StepStarted, Step: &id, Attempt: attempt})
		} else {
			attempt--
		}
		switch what, arg, _ := strings.Cut(f[1], "="); what {
		case "started":
		case "ok":
			apply(Event{Type: StepEnded, Step: &id, Attempt: attempt, Outcome: &Outcome{Kind: Changed}})
		case "failed":
			apply(Event{Type: StepEnded, Step: &id, Attempt: attempt, Outcome: &Outcome{Kind: Failed}})
		case "wait":
			d, err := time.ParseDuration(arg)
			if err != nil {
				t.Fatal(err)
			}
			apply(Event{Type: StepEnded, Step: &id, Attempt: attempt, Outcome: &Outcome{Kind: Waiting, After: d}})
		default:
			t.Fatalf("unknown event %q", e)
		}
	}
	return r
}

func decision(r *Run, now time.Duration) string {
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
	if d.Wake > 0 {
		out = append(out, "wake +"+d.Wake.String())
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
		{"the earliest wakes the run", "free 0 | a b | 1", "a.1 wait=30s, b.1 wait=10s", "wake +10s"},
		{"a window is kept full", "free - 2 | a b c | 2", "a.1 ok, b.1 started", "a.2"},
		{"the next one begins when one is through", "free - 2 | a b c | 2", "a.1 ok, a.2 ok, b.1 started", "c.1"},
		{"what is down takes from the window", "free - 2 | a b c d | 1", "d down, a.1 started", "d.1"},
		{"what is down and through gives back", "free - 2 | a b c d | 1", "d down, a.1 started, d.1 ok", "b.1"},
		{"what was lost out of service takes from the window", "free 90 2 | a b c d | 1", "a.1 failed", "b.1"},
		{"a spent window halts", "free 90 1 | a b c d | 1", "a.1 failed", "stop: 1 hosts are out of service, and max_unavailable is 1: a (was lost at step 1)"},
		{"a window begins no host beyond the limit of failures", "free 0 3 | a b c d | 2", "a.1 failed, b.1 ok, c.1 started", "b.2"},
		{"and halts when those in flight have landed", "free 0 3 | a b c d | 1", "a.1 failed, b.1 ok, c.1 ok", "stop: 1 of 4 hosts of batch 1 failed, and max_fail_percentage is 0"},
		{"what is down elsewhere takes from a batch", "free 0 | a b / c d | 1", "d down", "a.1"},
		{"but never all of it", "free 0 | a / c d | 1", "c down, d down", "a.1"},
		{"a lost host is not asked in a later play", "linear 50 | a b | 1\nlinear - | a b | 1", "a.1 failed, b.1 ok", "2:b.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := decision(runOf(t, c.plan, c.events), 0); got != c.want {
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
		{"none after one was lost", "free 90 | m1 m2 | 2", "m1.1 failed", "stop: taking control-plane host m2 out of service could cost the quorum: of 2 members m1 (was lost at step 1) is out of service, and 2 must serve"},
		{"nor in a later play", "free 90 | m1 w | 1\nfree 90 | m2 w | 1", "m1.1 failed, w.1 ok, 2:w.1 ok", "stop: taking control-plane host m2 out of service could cost the quorum: of 2 members m1 (was lost at step 1) is out of service, and 2 must serve"},
		{"the workers of the batch finish first", "free 90 | m1 m2 w | 2", "m1.1 failed, w.1 ok", "w.2"},
		{"linear goes one by one", "linear - | m1 m2 w | 2", "", "m1.1 w.1"},
		{"and waits for all but those held back", "linear - | m1 m2 w | 2", "m1.1 ok, w.1 started", ""},
		{"the first goes on before the second begins", "linear - | m1 m2 w | 2", "m1.1 ok, w.1 ok", "m1.2 w.2"},
		{"then the second", "linear - | m1 m2 w | 2", "m1.1 ok, w.1 ok, m1.2 ok, w.2 ok", "m2.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := decision(runOf(t, c.plan, c.events, "m1", "m2"), 0); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// With three members etcd can spare one. What was out of service before the run
// counts as much as what the run took.
func TestNextQuorum(t *testing.T) {
	lost := "stop: taking control-plane host m1 out of service could cost the quorum: of 3 members m3 (is unreachable) is out of service, and 2 must serve"
	for _, c := range []struct{ name, plan, events, want string }{
		{"all serve", "free - | m1 / m2 / m3 | 1", "", "m1.1"},
		{"one is unreachable", "free - | m1 / m2 / m3 | 1", "m3 down", lost},
		{"the one that is out of service costs nothing", "free - | m3 / m1 / m2 | 1", "m3 down", "m3.1"},
		{"and counts again when it is through", "free - | m3 / m1 / m2 | 1", "m3 down, m3.1 ok", "m1.1"},
		{"a worker that is down does not count", "free - | m1 m2 m3 w | 1", "w down", "m1.1 w.1"},
		{"the one that is out of service goes first", "free - | m1 m2 m3 | 1", "m3 down", "m3.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := decision(runOf(t, c.plan, c.events, "m1", "m2", "m3"), 0); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// etcd's members may be others than the inventory's hosts.
func TestNextMembersElsewhere(t *testing.T) {
	r := runOf(t, "free - | m1 w | 1", "", "m1")
	r.Plan.ControlPlane.Members = []Member{{Name: "m1"}, {Name: "x2", Down: "Node x2 is NotReady"}, {Name: "x3"}}
	if got, want := decision(r, 0), "w.1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	r.Plan.ControlPlane.Members[1].Down = ""
	if got, want := decision(r, 0), "m1.1 w.1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// With one step due, the run sleeps until the earliest of the others.
func TestNextWake(t *testing.T) {
	for _, events := range []string{"a.1 wait=10s, b.1 wait=30s, c.1 wait=20s", "a.1 wait=10s, b.1 wait=20s, c.1 wait=30s"} {
		if got := decision(runOf(t, "free 0 | a b c | 1", events), 10*time.Second); got != "a.1 wake +20s" {
			t.Errorf("%s: %q", events, got)
		}
	}
}

// A halt that somebody has seen and gone past is past; the batches behind it are
// judged as ever.
func TestPastAHalt(t *testing.T) {
	r := runOf(t, "free 0 | a b / c d / e | 1", "a.1 failed, b.1 ok")
	apply := func(e Event) {
		t.Helper()
		e.Seq, e.Clock = r.Seq+1, r.Clock
		if err := r.Apply(e); err != nil {
			t.Fatal(err)
		}
	}
	end := func(h string, k OutcomeKind) {
		t.Helper()
		id := StepID{Host: h}
		apply(Event{Type: StepStarted, Step: &id, Attempt: 1})
		apply(Event{Type: StepEnded, Step: &id, Attempt: 1, Outcome: &Outcome{Kind: k}})
	}
	halt := Next(r, 0).Halt
	if got := fmt.Sprint(halt.Hosts, halt.Left, halt.Gate); got != "[a] [c d e] true" {
		t.Fatalf("halt %s", got)
	}
	apply(Event{Type: RunHalted, Halt: halt})
	apply(Event{Type: RunResumed})
	if got := decision(r, 0); !strings.HasPrefix(got, "stop: 1 of 2 hosts of batch 1") {
		t.Errorf("resumed without a word: %q", got)
	}
	apply(Event{Type: RunHalted, Halt: Next(r, 0).Halt})
	apply(Event{Type: RunResumed, Past: true})
	if got := decision(r, 0); got != "c.1" { // a is out of service still, so one at a time
		t.Errorf("past the halt: %q", got)
	}
	end("c", Failed)
	end("d", Changed)
	if got := decision(r, 0); !strings.HasPrefix(got, "stop: 1 of 2 hosts of batch 2") {
		t.Errorf("the next batch: %q", got)
	}
}

// The time of a step is the run's: what passes between a crash and a resume does
// not count, and what passed before it does.
func TestResumeKeepsTheStepsTime(t *testing.T) {
	r := &Run{}
	p := Plan{Plays: []PlannedPlay{{Strategy: Free, Batches: [][]string{{"a"}}, Tasks: []PlannedTask{{Steps: map[string]PlannedStep{"a": {Change: Change{Action: Update}}}}}}}}
	id := StepID{Host: "a"}
	for i, e := range []Event{
		{Type: RunStarted, Plan: &p},
		{Type: StepStarted, Step: &id, Attempt: 1, Clock: time.Minute},
		{Type: StepIntended, Step: &id, Attempt: 1, Clock: time.Minute, Outcome: &Outcome{Kind: Intends, Notes: map[string]string{"boot_id": "b1", "gone": "x"}}},
		{Type: StepIntended, Step: &id, Attempt: 1, Clock: time.Minute, Outcome: &Outcome{Kind: Intends, Notes: map[string]string{"gone": ""}}},
		{Type: RunResumed, Clock: 2 * time.Minute, At: time.Unix(1e9, 0)},
		{Type: StepStarted, Step: &id, Attempt: 2, Clock: 3 * time.Minute},
	} {
		e.Seq = int64(i + 1)
		if err := r.Apply(e); err != nil {
			t.Fatal(err)
		}
	}
	st := r.Step(id)
	if st.First != time.Minute || fmt.Sprint(st.SoFar) != "map[boot_id:b1]" || st.Attempts != 2 {
		t.Errorf("%+v", st)
	}
	late := Event{Seq: 7, Clock: 3 * time.Minute, Type: StepEnded, Step: &id, Attempt: 1, Outcome: &Outcome{Kind: Changed}}
	if err := r.Apply(late); !errors.Is(err, ErrLate) {
		t.Errorf("the end of an earlier attempt: %v", err)
	}
	if r.Step(id).Over() || r.Seq != 6 {
		t.Error("it was taken")
	}
}

func TestNextForks(t *testing.T) {
	r := runOf(t, "free - | a b c d e f g | 1", "a.1 started, b.1 started")
	if got := decision(r, 0); got != "c.1 d.1 e.1" {
		t.Errorf("5 forks, 2 taken: ready %q", got)
	}
}
