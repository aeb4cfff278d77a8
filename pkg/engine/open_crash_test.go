package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/pkg/engine"
	"github.com/fleetd/fleetd/pkg/module"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/playbook"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// openPlay has a command, one that its result decides, a fact made of that, and a
// command and a message that the fact decides.
const openPlay = `
- hosts: all
  gather_facts: false
  tasks:
    - command: probe
      register: probe
    - command: act {{ probe.stdout }}
      when: probe.rc == 0
      register: acted
    - set_fact: {fact: "{{ acted.stdout }}!"}
    - command: last {{ fact }}
      when: fact != 'x'
      register: last
    - debug: {msg: "{{ last.stdout }}"}
      register: shown
`

// echoing are hosts on which every command prints its own script, and those that
// begin with bad fail; how often each ran outlives the process.
type echoing struct {
	mu  sync.Mutex
	ran map[string][]string // by host
}

func (*echoing) Forget(string) {}

func (e *echoing) Run(_ context.Context, host string, c sshexec.Command) (sshexec.Result, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ran[host] = append(e.ran[host], c.Script)
	if strings.HasPrefix(c.Script, "exec bad") {
		return sshexec.Result{ExitStatus: 1}, nil
	}
	return sshexec.Result{Stdout: []byte(c.Script + "\n")}, nil
}

func (*echoing) Section() string { return node.Section.Name() }

func (*echoing) Observe(_ context.Context, keys map[string][]string) map[string]rollout.SectionObservation {
	out := map[string]rollout.SectionObservation{}
	for h := range keys {
		out[h] = rollout.SectionObservation{Value: []byte("{}")}
	}
	return out
}

// mortal is one life of a fleetd with a journal that outlives it. It dies with
// event killAt: once that is written, or, if lost, instead of writing it, when all
// that led to it has been done.
type mortal struct {
	hosts  *echoing
	kept   *[]rollout.Event
	killAt int
	lost   bool
	dead   bool
	mu     sync.Mutex
}

func (m *mortal) Append(_ context.Context, events []rollout.Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return errDead
	}
	if room := m.killAt - len(*m.kept); m.killAt > 0 && len(events) >= room {
		if m.dead = true; m.lost {
			room--
		}
		events = events[:room]
	}
	*m.kept = append(*m.kept, events...)
	if m.dead {
		return errDead
	}
	return nil
}

func (*mortal) Requests(context.Context) ([]rollout.Request, error) { return nil, nil }
func (*mortal) Forget(string)                                       {}

func (m *mortal) Run(ctx context.Context, host string, c sshexec.Command) (sshexec.Result, error) {
	m.mu.Lock()
	dead := m.dead
	m.mu.Unlock()
	if dead {
		return sshexec.Result{}, errDead
	}
	return m.hosts.Run(ctx, host, c)
}

// fickle answers otherwise in every life.
type fickle struct {
	engine.Resolver
	life int
}

func (f fickle) Resolve(name string, o rollout.Open, r rollout.Results) (rollout.Args, string, error) {
	args, skip, err := f.Resolver.Resolve(name, o, r)
	if line, isCommand := args["cmd"].(string); isCommand {
		args["cmd"] = fmt.Sprint(line, " life ", f.life)
	}
	return args, skip, err
}

func openPlan(t *testing.T, play string) (rollout.Plan, map[string]rollout.Params) {
	t.Helper()
	h := &echoing{}
	modules, params, differs := module.Modules(h), map[string]rollout.Params{}, map[string]rollout.Differ{}
	for name, m := range modules {
		params[name], differs[name] = m.About().Params, m
	}
	fsys := fstest.MapFS{"hosts": {Data: []byte("a\nb\n")}, "site.yml": {Data: []byte(play)}}
	inv, err := inventory.Load(fsys, []string{"hosts"}, inventory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	pb, err := playbook.Load(fsys, "site.yml", playbook.Options{Modules: params})
	if err != nil {
		t.Fatal(err)
	}
	d, _, err := pb.Compile(inv, params, playbook.CompileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	observed, err := engine.Observe(t.Context(), d, modules, []rollout.Observer{h})
	if err != nil {
		t.Fatal(err)
	}
	p, err := rollout.Compute(d, observed, differs, rollout.Basis{})
	if err != nil || len(p.Problems()) > 0 {
		t.Fatal(p.Problems(), err)
	}
	return p, params
}

// lives runs the plan in a process that dies, and in those that go on from what
// the journal has, until one comes to the end.
func lives(t *testing.T, p rollout.Plan, params map[string]rollout.Params, killAt int, lost bool) (*rollout.Run, *echoing, []rollout.Event) {
	t.Helper()
	hosts, kept := &echoing{ran: map[string][]string{}}, []rollout.Event{}
	for life := 0; ; life++ {
		m := &mortal{hosts: hosts, kept: &kept, lost: lost}
		if life == 0 {
			m.killAt = killAt
		}
		e := &engine.Engine{Modules: module.Modules(m), Resolver: fickle{playbook.NewOpenSteps(params), life}, Journal: m}
		var r *rollout.Run
		var err error
		if len(kept) == 0 {
			r, err = e.Execute(t.Context(), p, 2)
		} else {
			r, err = e.Resume(t.Context(), restored(t, kept), 0, false)
		}
		if !m.dead {
			if err != nil {
				t.Fatal(err)
			}
			return r, hosts, kept
		}
	}
}

// restored is the run of the events, by way of its snapshot, with all results.
func restored(t *testing.T, events []rollout.Event) *rollout.Run {
	t.Helper()
	r, err := rollout.Fold(events)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(r.Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	var s rollout.Snapshot
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	back, err := rollout.Restore(r.Plan, s)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range r.Plan.Hosts() {
		id := rollout.StepID{Task: len(r.Plan.Plays[0].Tasks), Host: h}
		if d := cmp.Diff(r.Results(id, nil), back.Results(id, nil)); d != "" {
			t.Errorf("results on %s (-before +restored):\n%s", h, d)
		}
	}
	return back
}

// Killed with any event, before or after it is written, fleetd runs no command
// twice, and does what it had decided, though it would decide otherwise now.
func TestOpenStepsKilledAtEveryEvent(t *testing.T) {
	p, params := openPlan(t, openPlay)
	calm, hosts, events := lives(t, p, params, 0, false)
	if calm.Status != rollout.Done || len(calm.LostHosts()) > 0 || len(hosts.ran["a"]) != 3 {
		t.Fatalf("undisturbed, the run ends %s with %v", calm.Status, hosts.ran)
	}
	cutOff := 0
	for at := range len(events) {
		for _, lost := range []bool{false, true} {
			t.Run(fmt.Sprint(at+1, lost), func(t *testing.T) {
				r, hosts, kept := lives(t, p, params, at+1, lost)
				decided := decisions(t, kept)
				for host, scripts := range hosts.ran {
					for _, word := range []string{"probe", "act", "last"} {
						ran := slices.DeleteFunc(slices.Clone(scripts), func(s string) bool { return !strings.HasPrefix(s, "exec "+word) })
						if len(ran) > 1 {
							t.Errorf("on %s ran %q", host, ran)
						}
						if want, open := decided[host+" "+word]; open && len(ran) == 1 && ran[0] != want {
							t.Errorf("on %s ran %q, in the journal is %q", host, ran[0], want)
						}
					}
				}
				for _, h := range r.LostHosts() {
					at, _ := r.Lost(h)
					if o := r.Step(at).Outcome; !strings.Contains(o.Message, "fleetd was cut off while") {
						t.Errorf("%s was lost: %s", h, o.Message)
					}
					cutOff++
				}
			})
		}
	}
	if cutOff == 0 {
		t.Error("no command was ever cut off: the test kills at the wrong places")
	}
}

// decisions are the scripts that open steps turned out to be, by host and the
// script's first word: each is decided once.
func decisions(t *testing.T, events []rollout.Event) map[string]string {
	t.Helper()
	out := map[string]string{}
	seen := map[rollout.StepID]bool{}
	for _, e := range events {
		note := ""
		if e.Type == rollout.StepIntended {
			note = e.Outcome.Notes["fleetd.resolved"]
		}
		if note == "" {
			continue
		}
		if seen[*e.Step] {
			t.Errorf("%s is decided twice", e.Step)
		}
		seen[*e.Step] = true
		var c rollout.Change
		var d struct{ Script string }
		if err := json.Unmarshal([]byte(note), &c); err != nil {
			t.Fatal(err)
		}
		if json.Unmarshal(c.Data, &d) == nil && d.Script != "" {
			out[e.Step.Host+" "+strings.Fields(d.Script)[1]] = d.Script
		}
	}
	return out
}
