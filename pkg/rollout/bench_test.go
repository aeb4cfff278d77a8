package rollout

import (
	"fmt"
	"testing"
	"time"
)

// benchSizes are fleets. Per step, the cost of a fleet must not grow with its
// size: what is compared is ns/step.
var benchSizes = []int{1_000, 10_000, 100_000}

const benchTasks = 8

// benchModule plans one change from one small section.
type benchModule struct{}

func (benchModule) About() About      { return About{} }
func (benchModule) Reads(Args) []Read { return nil }
func (benchModule) Diff(_ string, before State, _ Args) (Change, State, error) {
	return Change{Action: Update, Summary: "make 6.1.4-1.el7.elrepo.x86_64 the default kernel", Fields: []Field{{"default kernel", "5.10", "6.1.4"}}}, before, nil
}

func benchDesired(hosts int) (Desired, map[string]Observation) {
	names := make([]string, hosts)
	args := map[string]Args{}
	observed := map[string]Observation{}
	for i := range names {
		names[i] = fmt.Sprintf("worker%06d", i)
		args[names[i]] = Args{}
		observed[names[i]] = Observation{Identity: map[string]string{"machine_id": names[i]}}
	}
	play := Play{Name: "kernels", Strategy: Free, Batches: [][]string{names}}
	for i := range benchTasks {
		play.Tasks = append(play.Tasks, Task{Name: fmt.Sprint("task ", i), Module: "m", Args: args})
	}
	return Desired{Plays: []Play{play}}, observed
}

func benchPlan(b *testing.B, hosts int) Plan {
	b.Helper()
	d, observed := benchDesired(hosts)
	p, err := Compute(d, observed, map[string]Differ{"m": benchModule{}}, Basis{})
	if err != nil {
		b.Fatal(err)
	}
	return p
}

func perStep(b *testing.B, hosts int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*hosts*benchTasks), "ns/step")
}

func BenchmarkCompute(b *testing.B) {
	for _, hosts := range benchSizes {
		b.Run(fmt.Sprintf("hosts=%d", hosts), func(b *testing.B) {
			d, observed := benchDesired(hosts)
			for b.Loop() {
				if _, err := Compute(d, observed, map[string]Differ{"m": benchModule{}}, Basis{}); err != nil {
					b.Fatal(err)
				}
			}
			perStep(b, hosts)
		})
	}
}

// benchEvents carries a run out with 32 forks: Next is asked after every end.
func benchEvents(b *testing.B, p *Plan, keep bool) (events []Event) {
	b.Helper()
	r := &Run{}
	now := time.Duration(0)
	emit := func(e Event) {
		now++
		e.Seq, e.Clock = r.Seq+1, now
		if err := r.Apply(e); err != nil {
			b.Fatal(err)
		}
		if keep {
			events = append(events, e)
		}
	}
	emit(Event{Type: RunStarted, Plan: p, Forks: 32})
	var active []StepID
	for {
		d := Next(r, now)
		for _, id := range d.Ready {
			emit(Event{Type: StepStarted, Step: &id, Attempt: 1})
			active = append(active, id)
		}
		if len(active) == 0 {
			if d.Verdict != Finish {
				b.Fatalf("%+v", d)
			}
			return events
		}
		id := active[0]
		active = active[1:]
		emit(Event{Type: StepEnded, Step: &id, Attempt: 1, Outcome: &Outcome{Kind: Changed}})
	}
}

func BenchmarkNext(b *testing.B) {
	for _, hosts := range benchSizes {
		b.Run(fmt.Sprintf("hosts=%d", hosts), func(b *testing.B) {
			p := benchPlan(b, hosts)
			for b.Loop() {
				benchEvents(b, &p, false)
			}
			perStep(b, hosts)
		})
	}
}

func BenchmarkFold(b *testing.B) {
	for _, hosts := range benchSizes {
		b.Run(fmt.Sprintf("hosts=%d", hosts), func(b *testing.B) {
			p := benchPlan(b, hosts)
			events := benchEvents(b, &p, true)
			for b.Loop() {
				if _, err := Fold(events); err != nil {
					b.Fatal(err)
				}
			}
			perStep(b, hosts)
		})
	}
}
