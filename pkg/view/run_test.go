package view

import (
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
)

const runID = "20010909-014640-abcd"

// recording makes up the events of a run, as the engine would record them.
type recording struct {
	t      *testing.T
	run    *rollout.Run
	events []rollout.Event
	at     time.Time
	clock  time.Duration
	watch  func(*rollout.Run, rollout.Event)
}

func record(t *testing.T, p rollout.Plan, watch func(*rollout.Run, rollout.Event)) *recording {
	t.Helper()
	rec := &recording{t: t, run: &rollout.Run{}, at: time.Unix(1e9, 0).UTC(), watch: watch}
	rec.add(0, rollout.Event{Type: rollout.RunStarted, Plan: &p, Forks: 5, By: &rollout.Person{User: "anna", Host: "bastion1", Key: "SHA256:6bZk"}})
	return rec
}

func (rec *recording) add(after time.Duration, e rollout.Event) {
	rec.t.Helper()
	rec.at, rec.clock = rec.at.Add(after), rec.clock+after
	e.At, e.Clock, e.Seq = rec.at, rec.clock, int64(len(rec.events)+1)
	if e.Step != nil {
		if s := rec.run.Step(*e.Step); s != nil {
			e.Attempt = s.Attempts
		}
		if e.Type == rollout.StepStarted {
			e.Attempt++
		}
	}
	rec.events = append(rec.events, e)
	if err := rec.run.Apply(e); err != nil {
		rec.t.Fatal(err)
	}
	if rec.watch != nil {
		rec.watch(rec.run, e)
	}
}

// play lets the run go on by the rules, each step ending after a while with the
// outcome that is given for it, until most steps have ended or it is over.
func (rec *recording) play(most int, outcome func(rollout.StepID, rollout.PlannedStep) rollout.Outcome) *recording {
	rec.t.Helper()
	for ended := 0; ; {
		d := rollout.Next(rec.run, rec.clock)
		switch d.Verdict {
		case rollout.Finish:
			rec.add(0, rollout.Event{Type: rollout.RunDone})
			return rec
		case rollout.Stop:
			rec.add(0, rollout.Event{Type: rollout.RunHalted, Halt: d.Halt})
			return rec
		}
		for _, id := range d.Ready {
			rec.add(0, rollout.Event{Type: rollout.StepStarted, Step: &id})
		}
		for _, id := range d.Ready {
			if ended++; ended > most {
				return rec
			}
			s, _ := rec.run.Plan.Step(id)
			o := outcome(id, s)
			rec.add(2*time.Second, rollout.Event{Type: rollout.StepEnded, Step: &id, Outcome: &o})
		}
	}
}

// well is the outcome of a step that goes as planned.
func well(_ rollout.StepID, s rollout.PlannedStep) rollout.Outcome {
	switch {
	case s.Problem != nil:
		return rollout.Fail(s.Problem)
	case s.Change.Action.Writes():
		return rollout.Did("did it")
	}
	return rollout.AlreadyDone("fit")
}

func (rec *recording) stream() iter.Seq2[rollout.Event, error] {
	return func(yield func(rollout.Event, error) bool) {
		for _, e := range rec.events {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// halted drives the example to a halt: node1 comes back on the old kernel.
func halted(t *testing.T, watch func(*rollout.Run, rollout.Event)) *recording {
	t.Helper()
	rec := record(t, example(), watch)
	step := func(task int) *rollout.StepID { return &rollout.StepID{Task: task, Host: "node1"} }
	start := func(task int) { rec.add(time.Second, rollout.Event{Type: rollout.StepStarted, Step: step(task)}) }
	end := func(task int, after time.Duration, o rollout.Outcome) {
		rec.add(after, rollout.Event{Type: rollout.StepEnded, Step: step(task), Outcome: &o})
	}
	start(0)
	end(0, 11*time.Second, rollout.AlreadyDone("fit"))
	start(1)
	rec.add(0, rollout.Event{Type: rollout.StepOperation, Step: step(1), Operation: &rollout.Operation{
		Kind: "ssh", Host: "node1", Text: "yum --enablerepo=elrepo-kernel install -y kernel-ml-6.1.176", Started: rec.at, Took: 11 * time.Second, Result: "rc 0", Output: "Complete!\n"}})
	end(1, 11*time.Second, rollout.Did("kernel-ml-6.1.176-1.el7.elrepo.x86_64 installed"))
	for range 2 {
		start(2)
		end(2, time.Second, rollout.WaitFor(2*time.Second, "3 pods are being evicted"))
	}
	start(2)
	end(2, 0, rollout.Did("drained"))
	start(3)
	intent := rollout.Intend("boot_id", "0b1e")
	rec.add(0, rollout.Event{Type: rollout.StepIntended, Step: step(3), Outcome: &intent})
	rec.add(time.Second, rollout.Event{Type: rollout.StepProgress, Step: step(3), Text: "reboot asked for"})
	rec.add(0, rollout.Event{Type: rollout.StepOperation, Step: step(3), Operation: &rollout.Operation{
		Kind: "ssh", Host: "node1", Text: "uname -r", Started: rec.at, Took: 200 * time.Millisecond, Result: "rc 0", Output: "5.10.262-1.el7.x86_64\nand a \x1b[31mcolour\n"}})
	end(3, 11*time.Second, rollout.Outcome{Kind: rollout.Failed, Message: "node1 came back on 5.10.262-1.el7.x86_64", Hint: "look at its console"})
	return rec.play(0, well)
}

// fleet is a plan for 30 workers and the cluster that goes on without some.
func fleet() rollout.Plan {
	var hosts []string
	for i := range 28 {
		hosts = append(hosts, fmt.Sprintf("worker%02d", i+1))
	}
	hosts = append(hosts, "n3", "n7")
	changes := []rollout.Change{
		{Action: rollout.ReadOnly, Summary: "check space, repository, boot loader, drivers"},
		{Action: rollout.Create, Summary: "install kernel-ml-6.1.176-1.el8.elrepo.x86_64", Back: "remove kernel-ml-6.1.176-1.el8.elrepo.x86_64"},
		{Action: rollout.Update, Summary: "cordon and drain", Disruptive: true, Back: "uncordon"},
		{Action: rollout.Update, Summary: "boot 6.1.176 once, on trial", Disruptive: true, BackDisruptive: true, Back: "boot 4.18.0-553.el8_10.x86_64 again",
			Fields: []rollout.Field{{Name: "running kernel", Before: "4.18.0-553.el8_10.x86_64", After: "6.1.176-1.el8.elrepo.x86_64"}}},
		{Action: rollout.Update, Summary: "uncordon", Back: "cordon and drain"},
	}
	names := []string{"Node is fit for the change", "Kernel package is installed", "Node is drained", "Node boots the new kernel on trial", "Node takes work again"}
	share := 50.0
	play := rollout.PlannedPlay{Name: "Kernels on the workers", Position: rollout.Position{File: "playbooks/kernels.yml", Line: 3}, Strategy: rollout.Free, MaxFailPercentage: &share, Batches: [][]string{hosts}, MaxUnavailable: 3}
	for i, c := range changes {
		steps := map[string]rollout.PlannedStep{}
		for _, h := range hosts {
			steps[h] = rollout.PlannedStep{Change: c}
		}
		play.Tasks = append(play.Tasks, rollout.PlannedTask{Name: names[i], Module: "fleetd.kernel", Steps: steps})
	}
	p := rollout.Plan{
		Schema: rollout.PlanSchema, Source: rollout.Source{Inventories: []string{"inventory.yaml"}, Playbook: "playbooks/site.yml (built in)"},
		Plays: []rollout.PlannedPlay{play, {Name: "Calico moves to eBPF", Strategy: rollout.Linear, Batches: [][]string{{rollout.Localhost}, {"n3"}},
			Tasks: []rollout.PlannedTask{{Name: "Data plane is BPF", Steps: map[string]rollout.PlannedStep{
				rollout.Localhost: {Change: rollout.Change{Action: rollout.Update, Summary: "set the data plane to BPF", Back: "set the data plane to Iptables"}},
				"n3":              {Change: rollout.Change{Action: rollout.NoOp}},
			}}}}},
	}
	if err := p.Seal(); err != nil {
		panic(err)
	}
	return p
}

// losing is a fleet of which two hosts are lost, by a cause each.
func losing(id rollout.StepID, s rollout.PlannedStep) rollout.Outcome {
	switch {
	case id.Host == "n3" && id.Task == 3:
		return rollout.Outcome{Kind: rollout.Failed, Message: "cannot boot 6.1.176 on n3: it came back on 4.18.0-553.el8_10.x86_64", Hint: "look at its console"}
	case id.Host == "n7" && id.Task == 1:
		return rollout.Outcome{Kind: rollout.Unreachable, Message: "cannot run yum on n7: connect: no route to host", Hint: "see to its network, then run fleetd again"}
	}
	return well(id, s)
}

var next = Next{
	Show:   "fleetd runs show " + runID,
	Resume: "fleetd resume " + runID,
	Again:  "fleetd apply inventory.yaml",
	Past:   "fleetd resume " + runID + " --past-halt",
	Undo:   "fleetd undo " + runID,
}

func ended(r *rollout.Run, failed error) []byte {
	var b strings.Builder
	End(&b, Style{}, r, next, failed)
	return []byte(b.String())
}
