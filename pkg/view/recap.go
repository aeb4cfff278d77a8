package view

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
)

// recap is what came of a run, host by host; its JSON form is the last line of
// `-o json`.
type recap struct {
	Type   string            `json:"type"` // "recap"
	Run    string            `json:"run"`
	Status rollout.RunStatus `json:"status"`
	// Changes were made, on so many Changed hosts; not: planned.
	Changes int              `json:"changes"`
	Seconds float64          `json:"seconds"`
	Hosts   map[string]tally `json:"hosts"`
	Lost    []lostHost       `json:"lost,omitempty"`
	Halt    *rollout.Halt    `json:"halt,omitempty"`
	Asked   *rollout.Request `json:"asked,omitempty"`
	Error   string           `json:"error,omitempty"`

	plan    *rollout.Plan
	order   []string        // of the hosts
	changed map[string]bool // hosts on which something was
}

// tally counts the steps of one host by what came of them.
type tally struct {
	Changed     int `json:"changed"`
	OK          int `json:"ok"`
	Skipped     int `json:"skipped,omitempty"`
	Ignored     int `json:"ignored,omitempty"` // failed, and the playbook says that it does not matter
	Rescued     int `json:"rescued,omitempty"` // failed, and a rescue was there
	Failed      int `json:"failed"`
	Unreachable int `json:"unreachable"`
	NotDone     int `json:"not_done"`

	begun   bool
	problem bool // the plan says already that it cannot be touched
}

// lostHost is a host that failed or could not be reached, and at what.
type lostHost struct {
	Host    string              `json:"host"`
	Task    string              `json:"task"`
	Kind    rollout.OutcomeKind `json:"outcome"`
	Message string              `json:"message"`
	Hint    string              `json:"hint,omitempty"`
}

// recapOf sums a run up. failed is why it could not go on, if so.
func recapOf(id string, r *rollout.Run, failed error) recap {
	c := recap{Type: "recap", Run: id, Hosts: map[string]tally{}, changed: map[string]bool{}}
	if failed != nil {
		c.Error = failed.Error()
	}
	if r == nil {
		return c
	}
	c.plan = &r.Plan
	c.Status, c.Halt, c.Asked, c.Seconds, c.order = r.Status, r.Halt, r.Asked, r.Clock.Seconds(), r.Plan.Hosts()
	for _, h := range c.order {
		c.Hosts[h] = tally{}
	}
	r.Plan.Each(func(id rollout.StepID, s rollout.PlannedStep) bool {
		if !s.Counts() || r.Plan.Task(id).Uncounted {
			return true
		}
		t := c.Hosts[id.Host]
		state := r.Step(id)
		t.begun, t.problem = t.begun || state != nil, t.problem || s.Problem != nil
		_, lost := r.Lost(id.Host)
		switch {
		case r.Passes(id) && (!lost || r.Plan.Plays[id.Play].Blocks.Rescue(id.Task)):
			return true
		case state == nil || !state.Over():
			t.NotDone++
		case state.Outcome.Kind == rollout.Changed:
			t.Changed++
			c.Changes++
			c.changed[id.Host] = true
		case state.Outcome.Ignored:
			t.Ignored++
		case state.Outcome.Kind == rollout.Skipped:
			t.Skipped++
		case r.Rescued(id):
			t.Rescued++
		case state.Outcome.Kind == rollout.Failed:
			t.Failed++
		case state.Outcome.Kind == rollout.Unreachable:
			t.Unreachable++
		default:
			t.OK++
		}
		c.Hosts[id.Host] = t
		return true
	})
	for _, h := range r.LostHosts() {
		at, _ := r.Lost(h)
		o := r.Step(at).Outcome
		c.Lost = append(c.Lost, lostHost{h, taskName(r.Plan.Task(at)), o.Kind, o.Message, o.Hint})
	}
	return c
}

func (c *recap) named(hosts []string) []string { return named(c.plan, hosts) }

func (t tally) text(st Style) string {
	var parts []string
	add := func(n int, paint func(string) string, word string) {
		if n > 0 {
			parts = append(parts, paint(fmt.Sprintf("%s %d", word, n)))
		}
	}
	plain := func(s string) string { return s }
	add(t.Changed, st.green, "changed")
	add(t.OK, plain, "ok")
	add(t.Skipped, plain, "skipped")
	add(t.Ignored, st.yellow, "ignored")
	add(t.Rescued, st.yellow, "rescued")
	add(t.Failed, st.red, "failed")
	add(t.Unreachable, st.red, "unreachable")
	add(t.NotDone, st.yellow, "not done")
	if len(parts) == 0 {
		return st.dim("nothing to do")
	}
	return strings.Join(parts, "  ")
}

// Next are the command lines that may be typed after a run; "" = none.
type Next struct {
	Show   string // tells every command of the run
	Resume string // goes on with it
	Again  string // does what is left, once the cause of a halt is mended
	Past   string // goes on without the lost hosts, in spite of the halt
	Undo   string // takes back what was changed
}

// End says what came of every host, how the run ended, and what to do next.
// failed is why it could not go on, if so: a journal that cannot be written.
func End(w io.Writer, st Style, r *rollout.Run, next Next, failed error) {
	var b bytes.Buffer // one write: nothing comes in between
	c := recapOf("", r, failed)
	begun := r != nil && r.Status != ""
	if failed != nil {
		fmt.Fprintf(&b, "\n%s: %s.\n", st.red("The run could not go on"), text.Printable(failed.Error()))
		if begun {
			fmt.Fprintln(&b, "Not all that is shown here is in the journal. A resume looks again at what it does not have.")
		}
	}
	if !begun {
		fmt.Fprintln(&b, "\nNothing was begun.")
		_, _ = w.Write(b.Bytes())
		return
	}
	c.hosts(&b, st)
	c.lost(&b, st)
	c.left(&b, st)
	c.verdict(&b, st, r)
	c.next(&b, next)
	_, _ = w.Write(b.Bytes()) // an Output takes it all
}

// hosts writes the counts, hosts with equal ones together.
func (c *recap) hosts(w io.Writer, st Style) {
	type key struct {
		tally
		cluster bool
	}
	groups := map[key][]string{}
	var order []key
	for _, h := range c.order {
		k := key{c.Hosts[h], h == rollout.Localhost}
		k.begun, k.problem = false, false // told further down
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], h)
	}
	const most = 40 // a longer list of hosts is not worth moving all counts to the right
	names, width := make([]string, len(order)), 0
	for i, k := range order {
		names[i] = hostNames(c.named(groups[k]))
		if n := len([]rune(names[i])); n <= most {
			width = max(width, n)
		}
	}
	fmt.Fprintln(w)
	for i, k := range order {
		fmt.Fprintf(w, "  %s%s  %s\n", st.bold(names[i]), strings.Repeat(" ", max(0, width-len([]rune(names[i])))), k.text(st))
	}
}

// lossCause is what took some hosts from a run.
type lossCause struct {
	lostHost
	hosts []string
	same  bool // to the letter
}

// causes are the hosts that were lost, by cause. Those that one cause took stand
// together: a dead switch is one thing to mend, not forty.
func (c *recap) causes() (out []*lossCause) {
	at := map[lostHost]*lossCause{}
	for _, l := range c.Lost {
		host := l.Host
		l.Host, l.Message, l.Hint = "", ofOne(host, l.Message), ofOne(host, l.Hint)
		key := l
		key.Message, key.Hint = ofAny(host, l.Message), ofAny(host, l.Hint)
		k, known := at[key]
		if !known {
			k = &lossCause{lostHost: l, same: true}
			at[key], out = k, append(out, k)
		}
		k.same = k.same && k.lostHost == l
		k.hosts = append(k.hosts, host)
	}
	return out
}

// lost writes the hosts that were lost, with the cause.
func (c *recap) lost(w io.Writer, st Style) {
	for _, k := range c.causes() {
		fmt.Fprintf(w, "\n  %s  %s: %s\n", st.bold(hostNames(c.named(k.hosts))), k.Task, st.red(string(k.Kind)))
		indent(w, "      ", k.Message)
		for _, more := range []string{k.Hint, asOf(k.hosts[0], k.same)} {
			if more != "" {
				indent(w, "      ", more)
			}
		}
	}
}

// left names the hosts that are not lost and have steps left to do.
func (c *recap) left(w io.Writer, st Style) {
	var fresh, begun, problem []string
	for _, h := range c.order {
		switch t := c.Hosts[h]; {
		case t.NotDone == 0 || t.Failed+t.Unreachable > 0:
		case t.problem:
			problem = append(problem, h)
		case t.begun:
			begun = append(begun, h)
		default:
			fresh = append(fresh, h)
		}
	}
	if len(begun)+len(fresh)+len(problem) > 0 {
		fmt.Fprintln(w)
	}
	for _, l := range []struct {
		what  string
		hosts []string
	}{{"Not through", begun}, {"Not begun", fresh}, {"Not reached, and with a problem in the plan", problem}} {
		if len(l.hosts) > 0 {
			fmt.Fprintf(w, "%s: %s\n", st.yellow(l.what), hostNames(c.named(l.hosts)))
		}
	}
}

// verdict says how the run ended.
func (c *recap) verdict(w io.Writer, st Style, r *rollout.Run) {
	did := c.did(r.Plan.Undoes != "")
	worked := took(time.Duration(c.Seconds * float64(time.Second)))
	fmt.Fprintln(w)
	switch {
	case c.Error != "" || c.Status == rollout.Running:
		fmt.Fprintf(w, "%s after %s: %s.\n", st.red("Stopped"), worked, did)
	case c.Status == rollout.Done && len(c.Lost) > 0:
		var names []string
		for _, l := range c.Lost {
			names = append(names, l.Host)
		}
		were := "were"
		if len(names) == 1 {
			were = "was"
		}
		fmt.Fprintf(w, "%s: %s. In %s: %s.\n", st.red(fmt.Sprintf("Done, but %s %s lost", count(len(names), "host"), were)), namesOf(c.named(names)), worked, did)
	case c.Status == rollout.Done:
		fmt.Fprintf(w, "%s in %s: %s.\n", st.green("Done"), worked, did)
	case c.Status == rollout.Interrupted && c.Asked != nil && c.Asked.Verb == rollout.Pause:
		fmt.Fprintf(w, "%s after %s, %s.\nWhat was begun has come to its end or is in the journal: %s.\n", st.red("Paused"), worked, asker(c.Asked), did)
	case c.Status == rollout.Interrupted:
		fmt.Fprintf(w, "%s after %s: %s. What was begun has come to its end or is in the journal.\n", st.red("Interrupted"), worked, did)
	case c.Halt != nil:
		where := ""
		if h := c.Halt; h.Play < len(r.Plan.Plays) {
			play := r.Plan.Plays[h.Play]
			where = fmt.Sprintf(" in play %q, batch %d of %d", play.Name, h.Batch+1, len(play.Batches))
		}
		fmt.Fprintf(w, "%s%s: %s.\nIn %s: %s.\n", st.red("Halted"), where, text.Printable(c.Halt.Reason), worked, did)
	}
}

// asker says who asked for something, and why: "by anna@bastion1: the storage is slow".
func asker(q *rollout.Request) string {
	return text.Printable(strings.ReplaceAll(strings.TrimPrefix(q.String(), q.Verb.Past()+" "), "\n", " "))
}

// did says what was done: "140 changes made on 28 hosts".
func (c *recap) did(undo bool) string {
	if c.Changes == 0 {
		return "nothing was changed"
	}
	verb := "made"
	if undo {
		verb = "taken back"
	}
	return fmt.Sprintf("%s %s on %s", count(c.Changes, "change"), verb, places(c.plan, c.changed))
}

// Command is a command line that may be typed, and what it does.
type Command struct {
	Command string `json:"command"`
	What    string `json:"what"`
}

// commands are the command lines that fit how the run ended.
func (c *recap) commands(next Next) (lines []Command) {
	undo := Command{next.Undo, "takes back what was changed"}
	if c.Changes == 0 {
		undo.Command = ""
	}
	switch {
	case c.Error != "" || c.Status == rollout.Running:
		lines = []Command{{next.Resume, "goes on, once the journal can be written: see to its space"}}
	case c.Status == rollout.Interrupted:
		lines = []Command{{next.Resume, "goes on"}, undo}
	case c.Status == rollout.Done && len(c.Lost) > 0:
		lines = []Command{{next.Show, "tells every command"}, {next.Again, "does what is left, once the cause is mended"}, undo}
	case c.Status == rollout.Halted:
		goesOn := "goes on, once the cause is mended"
		if c.Asked != nil && c.Asked.Verb == rollout.Abort {
			goesOn = "plans what is left anew"
		}
		lines = []Command{{next.Show, "tells every command"}, {next.Again, goesOn}}
		if c.Halt != nil && c.Halt.Gate {
			lines = append(lines, Command{next.Past, "goes on without them"})
		}
		lines = append(lines, undo)
	}
	return slices.DeleteFunc(lines, func(l Command) bool { return l.Command == "" })
}

// next writes the command lines that fit how the run ended.
func (c *recap) next(w io.Writer, next Next) {
	lines := c.commands(next)
	const most = 60
	width := 0
	for _, l := range lines {
		if len(l.Command) <= most {
			width = max(width, len(l.Command))
		}
	}
	for i, l := range lines {
		lead := "      "
		if i == 0 {
			lead = "\nNext: "
		}
		fmt.Fprintf(w, "%s%-*s    %s\n", lead, width, l.Command, l.What)
	}
}
