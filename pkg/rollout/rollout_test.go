package rollout

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type fatal interface {
	Helper()
	Fatal(...any)
}

func mustJSON(t fatal, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// versions is the state of the test's module: what is installed and what is
// chosen for the tasks after it.
type versions struct {
	Installed string
	Wanted    string
}

var versionSection = NewSection[versions]("versions")

// install is a module whose second task depends on the state that the first
// one leaves.
type install struct{ use bool }

func (install) About() About { return About{} }

func (install) Reads(Args) []Read { return []Read{{Section: "versions"}} }

func (m install) Diff(host string, before State, args Args) (Change, State, error) {
	v, err := versionSection.Get(before)
	if err != nil {
		return Change{}, nil, err
	}
	if m.use {
		if v.Wanted == "" {
			return Change{}, nil, errors.New("use before install")
		}
		return Change{Action: Update, Summary: "use " + v.Wanted}, before, nil
	}
	want := args["version"].(string)
	if want == "impossible" {
		return Change{}, nil, fmt.Errorf("planning: %w", &Problem{Message: "no such version", Hint: "pick another"})
	}
	c := Change{Action: NoOp, Summary: "installed already"}
	if v.Installed != want {
		c = Change{Action: Create, Summary: "install " + want, Fields: []Field{{"version", v.Installed, want}}}
	}
	v.Installed, v.Wanted = want, want
	return c, versionSection.With(before, v), nil
}

// check is a read-only module.
type check struct{}

func (check) About() About      { return About{Guards: Changes} }
func (check) Reads(Args) []Read { return nil }
func (check) Diff(_ string, before State, _ Args) (Change, State, error) {
	return Change{Action: ReadOnly, Summary: "look"}, before, nil
}

var testModules = map[string]Differ{"install": install{}, "use": install{use: true}, "check": check{}}

func desired(args map[string]string) Desired {
	per := map[string]Args{}
	use := map[string]Args{}
	var hosts []string
	for _, h := range []string{"a", "b"} {
		if v, ok := args[h]; ok {
			hosts = append(hosts, h)
			per[h], use[h] = Args{"version": v}, Args{}
		}
	}
	return Desired{Plays: []Play{
		{Name: "one", Batches: [][]string{hosts}, Tasks: []Task{
			{Name: "look", Module: "check", Args: use},
			{Name: "install", Module: "install", Args: per},
		}},
		{Name: "two", Batches: [][]string{hosts}, Tasks: []Task{{Name: "use", Module: "use", Args: use}}},
	}}
}

func observed(t *testing.T, installed map[string]string) map[string]Observation {
	out := map[string]Observation{}
	for h, v := range installed {
		st := versionSection.With(nil, versions{Installed: v})
		out[h] = Observation{State: st}
	}
	return out
}

func TestComputeThreadsState(t *testing.T) {
	p, err := Compute(desired(map[string]string{"a": "2"}), observed(t, map[string]string{"a": "1"}), testModules, Basis{})
	if err != nil {
		t.Fatal(err)
	}
	got := p.Plays[1].Tasks[0].Steps["a"].Change.Summary
	if got != "use 2" {
		t.Errorf("the second play was planned on the wrong state: %q", got)
	}
	if p.Changes() != 2 {
		t.Errorf("%d changes, want 2", p.Changes())
	}
}

func TestComputeDropsIdleChecks(t *testing.T) {
	obs := observed(t, map[string]string{"a": "2", "b": "1"})
	p, err := Compute(desired(map[string]string{"a": "2", "b": "2"}), obs, testModules, Basis{})
	if err != nil {
		t.Fatal(err)
	}
	look := p.Plays[0].Tasks[0].Steps
	if look["a"].Change.Action != NoOp || look["b"].Change.Action != ReadOnly {
		t.Errorf("check on the unchanged host: %s, on the changed one: %s", look["a"].Change.Action, look["b"].Change.Action)
	}
}

// reboot takes a host out of service where its argument says so; drain is its
// guard, and cannot do its work.
type (
	reboot struct{}
	drain  struct{ check }
)

func (drain) About() About { return About{Guards: Disruptions} }
func (drain) Diff(string, State, Args) (Change, State, error) {
	return Change{}, nil, &Problem{Message: "cannot drain"}
}
func (reboot) About() About      { return About{} }
func (reboot) Reads(Args) []Read { return nil }
func (reboot) Diff(_ string, before State, args Args) (Change, State, error) {
	if args["now"] == true {
		return Change{Action: Update, Summary: "reboot", Disruptive: true}, before, nil
	}
	return Change{Action: NoOp}, before, nil
}

// TestComputeOfAGuardThatCannot: it is a problem of the hosts that it would be
// needed on, and of no other.
func TestComputeOfAGuardThatCannot(t *testing.T) {
	hosts := map[string]Args{"a": {"now": true}, "b": {"now": false}}
	d := Desired{Plays: []Play{{Batches: [][]string{{"a", "b"}}, Tasks: []Task{
		{Name: "drain", Module: "drain", Args: hosts}, {Name: "reboot", Module: "reboot", Args: hosts},
	}}}}
	p, err := Compute(d, nil, map[string]Differ{"drain": drain{}, "reboot": reboot{}}, Basis{})
	if err != nil {
		t.Fatal(err)
	}
	steps := p.Plays[0].Tasks[0].Steps
	if steps["a"].Problem == nil || steps["a"].Problem.Message != "cannot drain" || len(p.Plays[0].Tasks[1].Steps) != 1 {
		t.Errorf("the host that is to be rebooted: %+v", p.Plays[0].Tasks)
	}
	if steps["b"].Problem != nil || steps["b"].Change.Action != NoOp {
		t.Errorf("the host that is not: %+v", steps["b"])
	}
}

// picky is a check that finds two things wrong.
type picky struct{ check }

func (picky) Diff(host string, _ State, _ Args) (Change, State, error) {
	parts := []Problem{{Message: "full", Hint: "empty it"}, {Message: "cannot drain", Hint: "look why"}}
	return Change{}, nil, fmt.Errorf("unfit: %w", &Problem{Message: "full; cannot drain", Hint: "empty it\nlook why", Parts: parts})
}

// TestComputeTellsAllThatIsWrong: a check that fails hides nothing of what tasks
// behind it find, and nothing is told twice.
func TestComputeTellsAllThatIsWrong(t *testing.T) {
	hosts := map[string]Args{"a": {}}
	d := Desired{Plays: []Play{{Batches: [][]string{{"a"}}, Tasks: []Task{
		{Name: "check", Module: "picky", Args: hosts}, {Name: "drain", Module: "drain", Args: hosts},
	}}}}
	modules := map[string]Differ{"picky": picky{}, "drain": drain{}, "install": install{}}
	one, two := Problem{Message: "full", Hint: "empty it"}, Problem{Message: "cannot drain", Hint: "look why"}
	for _, c := range []struct {
		last Task
		want Problem
	}{
		{Task{Name: "drain", Module: "drain", Args: hosts}, Problem{Message: "full; cannot drain", Hint: "empty it\nlook why", Parts: []Problem{one, two}}},
		{
			Task{Name: "install", Module: "install", Args: map[string]Args{"a": {"version": "impossible"}}},
			Problem{Message: "full; cannot drain; planning: no such version", Hint: "empty it\nlook why\npick another", Parts: []Problem{one, two, {Message: "planning: no such version", Hint: "pick another"}}},
		},
	} {
		d.Plays[0].Tasks[1] = c.last
		p, err := Compute(d, observed(t, map[string]string{"a": "1"}), modules, Basis{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]HostProblem{{"a", c.want}}, p.Problems()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.last.Name, diff)
		}
	}
}

func TestComputeLeavesHostsWithProblemsAlone(t *testing.T) {
	obs := observed(t, map[string]string{"a": "1", "b": "1"})
	p, err := Compute(desired(map[string]string{"a": "impossible", "b": "2"}), obs, testModules, Basis{})
	if err != nil {
		t.Fatal(err)
	}
	want := []HostProblem{{"a", Problem{Message: "planning: no such version", Hint: "pick another"}}}
	if d := cmp.Diff(want, p.Problems()); d != "" {
		t.Error(d)
	}
	n := 0
	p.Each(func(id StepID, s PlannedStep) bool {
		if id.Host == "a" {
			n++
			if id.Play != 0 || id.Task != 0 {
				t.Errorf("the problem stands at %s, not where the host first appears", id)
			}
		}
		return true
	})
	if n != 1 {
		t.Errorf("%d steps for the host with a problem, want 1", n)
	}

	obs["b"] = Observation{Problem: &Problem{Message: "down", Unreachable: true}}
	p, err = Compute(desired(map[string]string{"b": "2"}), obs, testModules, Basis{})
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Problems(); len(got) != 1 || !got[0].Unreachable {
		t.Errorf("unreachable host: %+v", got)
	}
}

// A host that the cluster calls its control plane, and the inventory's group does
// not have, would be taken without a look at the quorum.
func TestComputeRefusesAControlPlaneNobodyCounts(t *testing.T) {
	for _, c := range []struct {
		name    string
		says    bool
		group   []string
		problem bool
	}{
		{"in the group", true, []string{"a"}, false},
		{"in no group", true, nil, true},
		{"a worker", false, nil, false},
	} {
		obs := observed(t, map[string]string{"a": "1"})
		o := obs["a"]
		o.ControlPlane = c.says
		obs["a"] = o
		p, err := Compute(desired(map[string]string{"a": "2"}), obs, testModules, Basis{ControlPlane: ControlPlane{Hosts: c.group}})
		if err != nil {
			t.Fatal(err)
		}
		if got := len(p.Problems()) > 0; got != c.problem {
			t.Errorf("%s: problems %+v", c.name, p.Problems())
		}
	}
}

// What was out of service, and what tells the machine from others, is in the plan.
func TestComputeBinds(t *testing.T) {
	obs := observed(t, map[string]string{"a": "1"})
	o := obs["a"]
	o.Down, o.Identity = "Node a is NotReady", map[string]string{"machine_id": "m"}
	obs["a"] = o
	obs["b"] = Observation{Problem: &Problem{Message: "no route", Unreachable: true}}
	p, err := Compute(desired(map[string]string{"a": "2", "b": "2"}), obs, testModules, Basis{})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]string{"a": "Node a is NotReady", "b": "is unreachable"}, p.Down); d != "" {
		t.Error(d)
	}
	if p.Bound["a"]["machine_id"] != "m" {
		t.Errorf("bound %+v", p.Bound)
	}
}

func TestComputeRefusesUnknownModule(t *testing.T) {
	d := desired(map[string]string{"a": "1"})
	d.Plays[0].Tasks[0].Module = "nothing"
	d.Plays[0].Tasks[0].Position = Position{File: "site.yml", Line: 7, Column: 9}
	_, err := Compute(d, nil, testModules, Basis{})
	if err == nil || !strings.HasPrefix(err.Error(), "site.yml:7:9: ") {
		t.Errorf("error %v", err)
	}
}

func TestComputeIsDeterministic(t *testing.T) {
	var first string
	for range 20 {
		p, err := Compute(desired(map[string]string{"a": "2", "b": "3"}), observed(t, map[string]string{"a": "1", "b": "1"}), testModules, Basis{})
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = p.Digest
		}
		if p.Digest != first {
			t.Fatal("two looks at one state give two plans")
		}
	}
}

func TestAsProblem(t *testing.T) {
	inner := &Problem{Message: "no route", Hint: "look at the cable", Unreachable: true}
	got := AsProblem(fmt.Errorf("cannot read facts: %w", inner))
	want := &Problem{Message: "cannot read facts: no route", Hint: "look at the cable", Unreachable: true}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if o := Fail(inner); o.Kind != Unreachable || o.Hint != inner.Hint {
		t.Errorf("outcome %+v", o)
	}
	if o := Fail(errors.New("x")); o.Kind != Failed || o.Message != "x" {
		t.Errorf("outcome %+v", o)
	}
}

// A damaged journal is an error, never a guess.
func TestFoldRefusesImpossibleEvents(t *testing.T) {
	p, err := Compute(desired(map[string]string{"a": "2"}), observed(t, map[string]string{"a": "1"}), testModules, Basis{})
	if err != nil {
		t.Fatal(err)
	}
	id := StepID{0, 1, "a"}
	start := Event{Seq: 1, Type: RunStarted, Plan: &p}
	look := StepID{0, 0, "a"}
	start2 := start
	start2.Seq = 2
	begun := Event{Seq: 2, Type: StepStarted, Step: &look, Attempt: 1}
	again := Event{Seq: 3, Type: StepStarted, Step: &look, Attempt: 2}
	done := Event{Seq: 3, Type: StepEnded, Step: &look, Attempt: 1, Outcome: &Outcome{Kind: Changed}}
	at := func(seq int64, e Event) Event { e.Seq = seq; return e }
	for name, events := range map[string][]Event{
		"no start":          {begun},
		"two starts":        {start, start2},
		"start, no plan":    {{Seq: 1, Type: RunStarted}},
		"unknown step":      {start, {Seq: 2, Type: StepStarted, Step: &StepID{5, 5, "z"}, Attempt: 1}},
		"not its turn":      {start, {Seq: 2, Type: StepStarted, Step: &id, Attempt: 1}},
		"end, no start":     {start, at(2, done)},
		"started twice":     {start, begun, again},
		"after the end":     {start, begun, done, at(4, again)},
		"attempt left out":  {start, {Seq: 2, Type: StepStarted, Step: &look, Attempt: 2}},
		"end, no outcome":   {start, begun, {Seq: 3, Type: StepEnded, Step: &look, Attempt: 1}},
		"unknown type":      {start, {Seq: 2, Type: "strange"}},
		"unknown of step":   {start, begun, {Seq: 3, Type: "strange", Step: &look, Attempt: 1}},
		"event missing":     {start, at(3, begun)},
		"event twice":       {start, begun, at(2, done)},
		"clock goes back":   {start, {Seq: 2, Clock: time.Minute, Type: RunInterrupted}, {Seq: 3, Clock: time.Second, Type: RunResumed}},
		"resumed when done": {start, {Seq: 2, Type: RunDone}, {Seq: 3, Type: RunResumed}},
	} {
		if _, err := Fold(events); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestReadPlanRefusals(t *testing.T) {
	p := mustSeal(t, Plan{Schema: PlanSchema})
	if _, err := ReadPlan([]byte("{")); err == nil || !strings.Contains(err.Error(), "not a fleetd plan") {
		t.Errorf("broken JSON: %v", err)
	}
	p.Schema = "fleetd.io/plan/v99"
	if _, err := ReadPlan(mustJSON(t, p)); err == nil || !strings.Contains(err.Error(), "v99") {
		t.Errorf("other schema: %v", err)
	}
}

func TestOutcomeConstructors(t *testing.T) {
	if o := WaitFor(time.Second, "%d left", 3); o.Final() || o.Bad() || o.Message != "3 left" || o.After != time.Second {
		t.Errorf("%+v", o)
	}
	if o := RetryAfter(time.Second, errors.New("busy")); o.Final() || o.Message != "busy" {
		t.Errorf("%+v", o)
	}
	if o := Did("x"); !o.Final() || o.Bad() {
		t.Errorf("%+v", o)
	}
}

// TestBecomeOfAHost: what a host says otherwise than its task is in the plan, in
// its digest, in the file, and in the plan that takes it back.
func TestBecomeOfAHost(t *testing.T) {
	plan := func(on map[string]bool) Plan {
		d := desired(map[string]string{"a": "2", "b": "2"})
		d.Plays[0].Tasks[1].Become, d.Plays[0].Tasks[1].BecomeOn = true, on
		p, err := Compute(d, observed(t, map[string]string{"a": "1", "b": "1"}), testModules, Basis{})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	check := func(what string, p Plan, play, task int) {
		t.Helper()
		if !p.Becomes(StepID{play, task, "a"}) || p.Becomes(StepID{play, task, "b"}) {
			t.Errorf("%s: a becomes %v, b %v", what, p.Becomes(StepID{play, task, "a"}), p.Becomes(StepID{play, task, "b"}))
		}
	}
	p := plan(map[string]bool{"b": false})
	check("the plan", p, 0, 1)
	if all := plan(nil); all.Digest == p.Digest || !all.Becomes(StepID{0, 1, "b"}) {
		t.Error("the digest does not tell it")
	}
	saved, err := ReadPlan(mustJSON(t, p))
	if err != nil {
		t.Fatal(err)
	}
	check("the file", saved, 0, 1)

	s := newSim(map[StepID][]Outcome{}, func(int) int { return 0 })
	p.Each(func(id StepID, _ PlannedStep) bool { s.script[id] = []Outcome{{Kind: Changed}}; return true })
	r, err := s.execute(p, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	back, err := Reverse("r1", r, nil, nil, Basis{})
	if err != nil {
		t.Fatal(err)
	}
	last := len(back.Plays) - 1
	check("the undo", back, last, len(back.Plays[last].Tasks)-1)
}

// TestNote: what a look has shown by the way is kept, and is no part of what is
// reviewed.
func TestNote(t *testing.T) {
	of := func(note, summary string) Plan {
		p := Plan{Schema: PlanSchema, Plays: []PlannedPlay{{Batches: [][]string{{"n1"}}, Tasks: []PlannedTask{{
			Name: "t", Steps: map[string]PlannedStep{"n1": {Change: Change{Action: Create, Summary: summary, Note: note}}},
		}}}}}
		if err := p.Seal(); err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := of("60 MB to download", "install")
	if of("staged", "install").Digest != p.Digest || of("staged", "remove").Digest == p.Digest {
		t.Error("the digest covers the note, or nothing")
	}
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	read, err := ReadPlan(raw)
	if err != nil || read.Plays[0].Tasks[0].Steps["n1"].Change.Note != "60 MB to download" {
		t.Errorf("%+v, %v", read.Plays, err)
	}
}
