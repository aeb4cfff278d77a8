package rollout

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
)

// Open is what of a step only the run tells: its condition, its arguments, or how
// its end is judged.
type Open struct {
	// Unknown are the conditions that a result of the run decides, as they are
	// written ("when: probe.rc == 0"), and the names of such arguments.
	Unknown []string `json:"unknown,omitempty"`
	// Late is set where the change is made in the run: for what is unknown, or
	// because there is one for each item of a loop.
	Late bool `json:"late,omitempty"`
	// Loop are the items, each on a line, or the expression that gives them.
	Loop []string `json:"loop,omitempty"`
	// Pause is how long to wait between two items.
	Pause time.Duration `json:"pause,omitempty"`
	// Judged is by what the step's end is judged, as it is written, such as
	// "failed_when: probe.rc > 1".
	Judged []string `json:"judged,omitempty"`
	// Summary is the call as it is written, on one line.
	Summary string `json:"summary,omitempty"`
	// Others are the variables of other hosts that the step reads, where tasks of the
	// run may set them: Results has them as HostVars.
	Others []string `json:"others,omitempty"`
	// Data is the compiler's own: all that is needed to resolve the step without
	// inventory or playbook.
	Data json.RawMessage `json:"data"`
	// Contents are the files that it is resolved with, by SHA-256; the plan has them
	// among its own.
	Contents Contents `json:"-"`
}

// Conditional reports whether a result decides that the step is done, and nothing of
// what it does: that was reviewed.
func (o *Open) Conditional() bool { return !o.Late && len(o.Unknown) > 0 }

// Hold adds a content.
func (o *Open) Hold(digest string, content []byte) {
	if o.Contents == nil {
		o.Contents = Contents{}
	}
	o.Contents[digest] = content
}

func (t Task) open(host string) *Open {
	if o, ok := t.Open[host]; ok {
		return &o
	}
	return nil
}

// Results are what the tasks before a step registered on its host, and the facts
// that they set, by the name of the variable. They are the node's words: data,
// never to be evaluated.
type Results map[string]json.RawMessage

// Results are those that a step finds, and with them the others of all hosts that it
// names. A task that was skipped registers so much.
func (r *Run) Results(id StepID, others []string) Results {
	out := Results{}
	if len(others) > 0 {
		out[HostVars] = r.ofHosts(id, others)
	}
	notified := map[string]bool{}
	handler := 0
	if tasks := r.Plan.Plays[id.Play].Tasks; id.Task < len(tasks) {
		handler = tasks[id.Task].Handler
	}
	number, ok := r.index.number[id.Host]
	if !ok {
		return out
	}
	for pi := 0; pi <= id.Play; pi++ {
		place := r.index.plays[pi].places[number]
		if place < 0 {
			continue
		}
		tasks := r.Plan.Plays[pi].Tasks
		if pi == id.Play {
			tasks = tasks[:id.Task]
		}
		for ti, t := range tasks {
			own := r.steps[pi][ti][place]
			switch {
			case pi < id.Play || own == nil || !own.Over():
			case handler > 0 && t.Handler == handler:
				clear(notified) // it has had its turn
			case own.Outcome.Kind == Changed:
				for _, word := range t.Notify {
					notified[word] = true
				}
			}
			r.registered(out, pi, ti, place)
		}
	}
	if len(notified) > 0 {
		out[Notified], _ = json.Marshal(slices.Sorted(maps.Keys(notified))) // texts: it cannot fail
	}
	return out
}

// HostVars stands in Results for what the tasks before have set on all hosts: an
// object of Results by host, for the step of a task that names such variables.
const HostVars = "hostvars"

// ofHosts are the variables of these names that tasks before a step have set on any
// host of their plays.
func (r *Run) ofHosts(id StepID, names []string) json.RawMessage {
	all := map[string]Results{}
	for pi := 0; pi <= id.Play; pi++ {
		tasks := r.Plan.Plays[pi].Tasks
		if pi == id.Play {
			tasks = tasks[:id.Task]
		}
		for ti, t := range tasks {
			if !t.Facts && !slices.Contains(names, t.Register) {
				continue
			}
			for place, number := range r.index.plays[pi].hosts {
				host := r.index.hosts[number]
				if all[host] == nil {
					all[host] = Results{}
				}
				r.registered(all[host], pi, ti, place)
			}
		}
	}
	for host, results := range all {
		maps.DeleteFunc(results, func(name string, _ json.RawMessage) bool { return !slices.Contains(names, name) })
		if len(results) == 0 {
			delete(all, host)
		}
	}
	raw, _ := json.Marshal(all) // JSON that was read: it cannot fail
	return raw
}

// registered adds what one task registered for the host at a place, or another host
// for it.
func (r *Run) registered(out Results, pi, ti, place int) {
	t := &r.Plan.Plays[pi].Tasks[ti]
	by := r.doer(pi, ti, place)
	if by < 0 {
		if t.Register != "" && r.reaches(pi, place, ti) {
			out[t.Register] = SkippedResult
		}
		return
	}
	s := r.steps[pi][ti][by]
	if r.Rescued(StepID{pi, ti, r.index.hosts[r.index.plays[pi].hosts[by]]}) {
		out[FailedResult], out[FailedTask] = s.Outcome.Result, t.said()
	}
	if s.Over() && len(s.Outcome.Result) > 0 {
		out.take(t, s.Outcome.Result)
	}
}

// said is a task as a rescue sees it.
func (t *PlannedTask) said() json.RawMessage {
	name := t.Name
	if name == t.Module {
		name = "" // it has none
	}
	raw, _ := json.Marshal(map[string]string{"name": name, "action": strings.TrimPrefix(t.Module, "ansible.builtin.")}) // texts: it cannot fail
	return raw
}

// FailedTask and FailedResult are the variables in which a rescue finds what failed.
const (
	FailedTask   = "ansible_failed_task"
	FailedResult = "ansible_failed_result"
)

// NotNotified is why a handler is skipped that nothing has called: unlike others
// that are skipped it registers nothing.
const NotNotified = "skipped, since nothing has notified it"

// Notified stands in Results for the handlers of the play that were notified, as a
// list of their names: for a step of a handler, since it last had its turn. No
// variable can have this name.
const Notified = "(notified)"

// SkippedResult is what Ansible registers of a task whose condition was false.
var SkippedResult = json.RawMessage(`{"changed":false,"skipped":true,"skip_reason":"Conditional result was False"}`)

func (r Results) take(t *PlannedTask, result json.RawMessage) {
	if !t.Facts {
		if t.Register != "" {
			r[t.Register] = result
		}
		return
	}
	facts, rest := factsIn(result)
	if t.Register != "" {
		r[t.Register] = rest
	}
	maps.Copy(r, facts)
	if t.Gathers {
		r.gather(facts)
	}
}

// LoopFacts is where the result of a loop has the facts that its items set. What is
// registered of a loop does not have them, as in Ansible.
const LoopFacts = "(facts)"

// factsIn are the facts that a result sets, and the result as it is registered.
func factsIn(result json.RawMessage) (facts map[string]json.RawMessage, registered json.RawMessage) {
	var all map[string]json.RawMessage
	if json.Unmarshal(result, &all) != nil {
		return nil, result
	}
	raw, loop := all[LoopFacts]
	if !loop {
		raw = all["ansible_facts"]
	}
	_ = json.Unmarshal(raw, &facts) // none, or an object of our own
	if loop {
		delete(all, LoopFacts)
		result, _ = json.Marshal(all) // JSON that was read: it cannot fail
	}
	return facts, result
}

// See adds the facts that the items of a loop have set so far.
func (r Results) See(ends []Outcome) {
	for _, end := range ends {
		facts, _ := factsIn(end.Result)
		maps.Copy(r, facts)
	}
}

// Gathered is the variable that has all that a host said of itself.
const Gathered = "ansible_facts"

// gather adds facts to those that the host told before, without what Ansible puts
// before their names.
func (r Results) gather(facts map[string]json.RawMessage) {
	all := map[string]json.RawMessage{}
	_ = json.Unmarshal(r[Gathered], &all) // none before, or JSON of our own
	for name, v := range facts {
		all[strings.TrimPrefix(name, "ansible_")] = v
	}
	r[Gathered], _ = json.Marshal(all) // JSON that was read: it cannot fail
}
