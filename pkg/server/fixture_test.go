package server

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/compliance"
	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/view"
)

// recording writes a run into a journal as the engine would: by the rules of
// rollout.Next, but without nodes. What it does not show is a second process.
type recording struct {
	t       testing.TB
	journal *journal.Journal
	lock    *journal.Lock
	w       *journal.Writer
	run     *rollout.Run
	at      time.Time
	clock   time.Duration
	open    []rollout.StepID // begun, and not ended
	// each is how many events are written at a time, held those that are not yet.
	each int
	held []rollout.Event
}

var began = time.Date(2026, 11, 27, 2, 10, 0, 0, time.UTC)

// fleet is a plan of kernels on n hosts and of the cluster.
func fleet(n int) rollout.Plan {
	kernels := rollout.PlannedPlay{Name: "Kernels on the workers", Strategy: rollout.Free, MaxUnavailable: 12}
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("worker%02d", i+1))
	}
	for len(names) > 0 {
		size := min(len(names), max(1, n/4))
		if len(kernels.Batches) == 0 {
			size = 1
		}
		kernels.Batches = append(kernels.Batches, names[:size])
		names = names[size:]
	}
	for _, t := range []rollout.PlannedTask{
		{Name: "Node is fit for the change", Module: "fleetd.kernel.preflight"},
		{Name: "Kernel package is installed", Module: "fleetd.kernel.package"},
		{Name: "Node is drained", Module: "fleetd.cluster.drain"},
		{Name: "Node boots the new kernel on trial", Module: "fleetd.kernel.trial_boot"},
		{Name: "New kernel is the default", Module: "fleetd.kernel.default"},
	} {
		t.Steps = map[string]rollout.PlannedStep{}
		for _, b := range kernels.Batches {
			for _, h := range b {
				c := rollout.Change{Action: rollout.Update, Summary: strings.ToLower(t.Name)}
				switch t.Module {
				case "fleetd.kernel.preflight":
					c.Action = rollout.ReadOnly
				case "fleetd.kernel.package":
					c.Action, c.Summary = rollout.Create, "install kernel-ml-6.1.176-1.el8.elrepo.x86_64"
					c.Reasons = []string{"latest in elrepo-kernel is 6.1.176-1.el8.elrepo"}
				case "fleetd.kernel.trial_boot":
					c.Disruptive = true
					c.Fields = []rollout.Field{{Name: "running kernel", Before: "4.18.0-553.el8_10.x86_64", After: "6.1.176-1.el8.elrepo.x86_64"}}
				}
				t.Steps[h] = rollout.PlannedStep{Change: c}
			}
		}
		kernels.Tasks = append(kernels.Tasks, t)
	}
	calico := rollout.PlannedPlay{Name: "Calico moves to eBPF", Strategy: rollout.Linear, Batches: [][]string{{rollout.Localhost}}, Tasks: []rollout.PlannedTask{{
		Name: "Data plane is BPF", Module: "fleetd.calico.dataplane",
		Steps: map[string]rollout.PlannedStep{rollout.Localhost: {Change: rollout.Change{Action: rollout.Update, Summary: "set the data plane to BPF", Disruptive: true,
			Fields: []rollout.Field{{Name: "linuxDataplane", Before: "Iptables", After: "BPF"}}}}},
	}}}
	return rollout.Plan{Schema: rollout.PlanSchema, Fleetd: "test", Plays: []rollout.PlannedPlay{kernels, calico},
		Source: rollout.Source{Inventories: []string{"inventory.yaml"}, Playbook: "playbooks/site.yml (built in)"}}
}

// recordRun begins a run under the run lock.
func recordRun(t testing.TB, dir, id string, p rollout.Plan) *recording {
	t.Helper()
	if err := p.Seal(); err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() }) // some tests have closed it
	rec := &recording{t: t, journal: j, run: &rollout.Run{}, at: began}
	if rec.lock, err = journal.Acquire(dir, id); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rec.lock.Release() })
	if rec.w, err = j.Begin(t.Context(), id, rec.at, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	rec.add(0, rollout.Event{Type: rollout.RunStarted, Plan: &p, Forks: 20, By: &rollout.Person{User: "anna", Host: "bastion1"}})
	return rec
}

func (rec *recording) add(after time.Duration, all ...rollout.Event) {
	rec.t.Helper()
	for i, e := range all {
		rec.at, rec.clock = rec.at.Add(after), rec.clock+after
		e.At, e.Clock, e.Seq = rec.at, rec.clock, rec.run.Seq+1
		if e.Step != nil {
			if s := rec.run.Step(*e.Step); s != nil {
				e.Attempt = s.Attempts
			}
			if e.Type == rollout.StepStarted {
				e.Attempt++
			}
		}
		if err := rec.run.Apply(e); err != nil {
			rec.t.Fatal(err)
		}
		all[i] = e
	}
	if rec.held = append(rec.held, all...); len(rec.held) >= rec.each {
		rec.flush()
	}
}

// flush writes the events that are held.
func (rec *recording) flush() {
	rec.t.Helper()
	if err := rec.w.Append(rec.t.Context(), rec.held); err != nil {
		rec.t.Fatal(err)
	}
	rec.held = nil
}

// play goes on by the rules until most steps have ended or the run is over, and
// reports whether it is. outcome says how a step ends; nil = well.
func (rec *recording) play(most int, outcome func(rollout.StepID) (rollout.Outcome, string)) bool {
	rec.t.Helper()
	for ended := 0; ; {
		d := rollout.Next(rec.run, rec.clock)
		switch d.Verdict {
		case rollout.Finish:
			rec.add(0, rollout.Event{Type: rollout.RunDone})
			return true
		case rollout.Stop:
			rec.add(0, rollout.Event{Type: rollout.RunHalted, Halt: d.Halt})
			return true
		}
		for _, id := range d.Ready {
			rec.add(0, rollout.Event{Type: rollout.StepStarted, Step: &id})
			rec.open = append(rec.open, id)
		}
		if len(rec.open) == 0 {
			rec.clock = max(rec.clock, d.Wake)
		}
		for len(rec.open) > 0 {
			if ended++; ended > most {
				return false
			}
			id := rec.open[0]
			rec.open = rec.open[1:]
			o, output := rollout.Did("did it"), ""
			if s, _ := rec.run.Plan.Step(id); !s.Change.Action.Writes() {
				o = rollout.AlreadyDone("fit")
			} else if outcome != nil {
				o, output = outcome(id)
			}
			if output != "" {
				rec.add(0, rollout.Event{Type: rollout.StepOperation, Step: &id, Operation: &rollout.Operation{Kind: "ssh", Host: id.Host, Text: "uname -r", Started: rec.at, Took: time.Second, Result: "rc 0", Output: output}})
			}
			rec.add(100*time.Millisecond, rollout.Event{Type: rollout.StepEnded, Step: &id, Outcome: &o})
		}
	}
}

// failing is how steps end: well, but for those of some hosts at their trial boot.
func failing(hosts ...string) func(rollout.StepID) (rollout.Outcome, string) {
	return func(id rollout.StepID) (rollout.Outcome, string) {
		for _, h := range hosts {
			if id.Host == h && id.Task == 3 && id.Play == 0 {
				return rollout.Outcome{Kind: rollout.Failed, Message: h + " came back on 4.18.0-553.el8_10.x86_64", Hint: "look at its console"}, "4.18.0-553.el8_10.x86_64\n"
			}
		}
		return rollout.Did("did it"), "ok\n"
	}
}

// The tokens that a test server knows.
const (
	viewerSecret   = "viewer-0123456789"
	operatorSecret = "operator-0123456789"
	approverSecret = "approver-0123456789"
	bothSecret     = "operator-and-approver-0123456789"
)

// serve is a server of a state folder.
func serve(t testing.TB, dir string) *Server {
	t.Helper()
	s, err := New(Options{
		Config: Config{Listen: DefaultListen, State: dir, Tokens: []Token{
			{"olaf", []Role{Viewer}, sumOf("another")}, {"vera", []Role{Viewer}, sumOf(viewerSecret)}, {"otto", []Role{Operator}, sumOf(operatorSecret)},
			{"arno", []Role{Approver}, sumOf(approverSecret)}, {"petra", []Role{Operator, Approver}, sumOf(bothSecret)}}},
		Now:     time.Now,
		Log:     slog.New(slog.NewTextHandler(io.Discard, nil)),
		Version: "test",
		Next: func(id string, r *rollout.Run) view.Next {
			return view.Next{Show: "fleetd runs show " + id, Resume: "fleetd resume " + id, Past: "fleetd resume " + id + " --past-halt", Undo: "fleetd undo " + id, Again: "fleetd apply inventory.yaml"}
		},
		Start:    func(Job) (<-chan error, error) { return nil, errors.New("nothing is to be started") },
		Playbook: "playbooks/site.yml",
		Mend: func(schedule string, r *compliance.Report) view.ComplianceNext {
			inv := strings.Join(r.Inventories, " -i ")
			return view.ComplianceNext{Plan: "fleetd plan " + inv, Look: "fleetd compliance " + inv}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.store.close() })
	return s
}

// request is one to this server, with a token.
func request(method, path, secret string, body io.Reader) *http.Request {
	r := httptest.NewRequest(method, "http://"+DefaultListen+path, body)
	if secret != "" {
		r.Header.Set("Authorization", "Bearer "+secret)
	}
	return r
}

func ask(s http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// get is what a viewer gets.
func get(t testing.TB, s http.Handler, path string) *httptest.ResponseRecorder {
	t.Helper()
	return ask(s, request(http.MethodGet, path, viewerSecret, nil))
}

const runID = "20261127-021000-ab12"

// brief is a server whose streams say what is there, and end, and that waits for no
// run.
func brief(t testing.TB, dir string) *Server {
	s := serve(t, dir)
	close(s.stopping)
	s.patience = time.Millisecond
	return s
}

func hexOf(sum [32]byte) string { return fmt.Sprintf("%x", sum) }
