package journal

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// newPlan is a plan of one play, in which every host has every task to do.
func newPlan(t testing.TB, hosts, tasks int) *rollout.Plan {
	t.Helper()
	play := rollout.PlannedPlay{Name: "Kernels", Strategy: rollout.Free, Batches: [][]string{nil}}
	for h := range hosts {
		play.Batches[0] = append(play.Batches[0], fmt.Sprintf("worker-%05d.example.com", h))
	}
	for ti := range tasks {
		task := rollout.PlannedTask{Name: fmt.Sprintf("Task %d", ti), Module: "fleetd.kernel.package", Steps: map[string]rollout.PlannedStep{}}
		for _, h := range play.Batches[0] {
			task.Steps[h] = rollout.PlannedStep{Change: rollout.Change{
				Action:  rollout.Update,
				Summary: "install kernel-ml-6.1.176-1.el7.elrepo.x86_64",
				Fields:  []rollout.Field{{Name: "kernel", Before: "3.10.0-1160.el7.x86_64", After: "6.1.176-1.el7.elrepo.x86_64"}},
				Data:    []byte(`{"nevra":"kernel-ml-6.1.176-1.el7.elrepo.x86_64","repo":"elrepo-kernel"}`),
			}}
		}
		play.Tasks = append(play.Tasks, task)
	}
	p := &rollout.Plan{Schema: rollout.PlanSchema, CreatedAt: start, Fleetd: "test", Plays: []rollout.PlannedPlay{play}}
	if err := p.Seal(); err != nil {
		t.Fatal(err)
	}
	return p
}

var start = time.Date(2026, 11, 22, 15, 21, 44, 123456789, time.FixedZone("CET", 3600))

// script makes the events of a run, numbered and on the clock.
type script struct {
	events []rollout.Event
}

func (s *script) add(e rollout.Event) {
	s.events = append(s.events, e)
	n := len(s.events) - 1
	e.Seq, e.Clock = int64(n+1), time.Duration(n)*time.Millisecond
	e.At = start.Add(e.Clock)
	s.events[n] = e
}

// step adds the events of one step: three, as most steps have.
func (s *script) step(id rollout.StepID, o rollout.Outcome) {
	s.add(rollout.Event{Type: rollout.StepStarted, Step: &id, Attempt: 1})
	s.add(rollout.Event{Type: rollout.StepOperation, Step: &id, Attempt: 1, Operation: &rollout.Operation{
		Kind: "ssh", Host: id.Host, Text: "yum -y --disablerepo='*' --enablerepo=elrepo-kernel install kernel-ml-6.1.176-1.el7.elrepo.x86_64 2>&1",
		Started: start, Took: 1234567 * time.Microsecond, Result: "rc 0", Output: "Complete!\n",
	}})
	s.add(rollout.Event{Type: rollout.StepEnded, Step: &id, Attempt: 1, Outcome: &o})
}

// wholeRun is a run to its end. When it was interrupted, one host was lost, one
// had an intention recorded and one waited.
func wholeRun(t testing.TB, p *rollout.Plan) []rollout.Event {
	t.Helper()
	s := &script{}
	hosts := p.Plays[0].Batches[0]
	s.add(rollout.Event{Type: rollout.RunStarted, Plan: p, Forks: 5, By: &rollout.Person{User: "root", Host: "bastion"}})
	lost := rollout.StepID{Host: hosts[0]}
	s.step(lost, rollout.Outcome{Kind: rollout.Failed, Message: "no space", Hint: "make room"})
	waits := rollout.StepID{Host: hosts[1]}
	s.add(rollout.Event{Type: rollout.StepStarted, Step: &waits, Attempt: 1})
	intends := rollout.Intend("boot_id", "b1")
	s.add(rollout.Event{Type: rollout.StepIntended, Step: &waits, Attempt: 1, Outcome: &intends})
	s.add(rollout.Event{Type: rollout.StepProgress, Step: &waits, Attempt: 1, Text: "reboots"})
	wait := rollout.WaitFor(time.Second, "not back yet").Note("asked", "yes")
	s.add(rollout.Event{Type: rollout.StepEnded, Step: &waits, Attempt: 1, Outcome: &wait})
	s.add(rollout.Event{Type: rollout.RunHalted, Halt: &rollout.Halt{Reason: "1 host lost", Hosts: hosts[:1], Left: hosts[1:], Gate: true}})
	s.add(rollout.Event{Type: rollout.RunResumed, Past: true, Forks: 7, By: &rollout.Person{User: "ops", Host: "bastion"}})
	s.add(rollout.Event{Type: rollout.StepStarted, Step: &waits, Attempt: 2})
	did := rollout.Did("came back")
	s.add(rollout.Event{Type: rollout.StepEnded, Step: &waits, Attempt: 2, Outcome: &did})
	for n, h := range hosts[1:] {
		for ti := range p.Plays[0].Tasks {
			if n > 0 || ti > 0 {
				s.step(rollout.StepID{Task: ti, Host: h}, rollout.Did("installed <kernel-ml> & rebooted"))
			}
		}
	}
	s.add(rollout.Event{Type: rollout.RunDone})
	return s.events
}

// same compares two runs.
func same(t *testing.T, want, got *rollout.Run) {
	t.Helper()
	if d := cmp.Diff(want.Snapshot(), got.Snapshot(), cmpopts.EquateEmpty()); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(want.Plan, got.Plan); d != "" {
		t.Error(d)
	}
}

func fold(t *testing.T, events []rollout.Event) *rollout.Run {
	t.Helper()
	r, err := rollout.Fold(events)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fill gives every field of a value something; a type within itself is filled once.
func fill(t *testing.T, v any) { fillValue(t, reflect.ValueOf(v).Elem(), nil) }

func fillValue(t *testing.T, v reflect.Value, within []reflect.Type) {
	t.Helper()
	switch x := v.Addr().Interface().(type) {
	case *any:
		*x = int64(7)
		return
	case *time.Time:
		*x = start
		return
	case *json.RawMessage:
		*x = json.RawMessage(`{"a":1}`)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		if depth := slices.Index(within, v.Type()); depth >= 0 && slices.Contains(within[depth+1:], v.Type()) {
			return
		}
		within = append(slices.Clone(within), v.Type())
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("json") != "-" { // it is kept elsewhere, and put back
				fillValue(t, v.Field(i), within)
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillValue(t, v.Elem(), within)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fillValue(t, v.Index(0), within)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fillValue(t, key, within)
		fillValue(t, value, within)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString("<text> \x00 ü")
	case reflect.Uint8:
		v.SetUint(7)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Float64:
		v.SetFloat(0.5)
	case reflect.Bool:
		v.SetBool(true)
	default:
		t.Fatalf("cannot fill a %s", v.Type())
	}
}
