package view

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/probe"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
)

// evidence is a run as a change ticket wants it.
type evidence struct {
	Run    string            `json:"run"`
	Status rollout.RunStatus `json:"status"`
	Halt   string            `json:"halt,omitempty"`
	Start  time.Time         `json:"started"`
	End    *time.Time        `json:"ended,omitempty"`
	By     string            `json:"by,omitempty"`
	Undoes string            `json:"undoes,omitempty"`
	Source rollout.Source    `json:"source"`
	Plan   string            `json:"plan"`
	Fleetd string            `json:"fleetd"`
	// Hosts is what came of each, Steps the steps on the cluster.
	Hosts map[string]tally `json:"hosts"`
	Steps []stepEnd        `json:"steps"`
	// Probes is what came of the probes, by the last step that looked; nil if none
	// did.
	Probes *probesSeen `json:"service_probes,omitempty"`
}

type stepEnd struct {
	Task    string              `json:"task"`
	Ended   time.Time           `json:"ended"`
	Outcome rollout.OutcomeKind `json:"outcome"`
	Message string              `json:"message,omitempty"`
}

// probesSeen is what a step saw of the probes, and when.
type probesSeen struct {
	Task string    `json:"task"`
	At   time.Time `json:"at"`
	probe.Evidence
}

// Evidence writes a page for the change ticket, from the events of a run: what was
// done to the cluster, and what Services answered meanwhile. It is Markdown, or one
// JSON object.
func Evidence(w io.Writer, id string, events iter.Seq2[rollout.Event, error], asJSON bool) error {
	r := &rollout.Run{}
	e := evidence{Run: id, Steps: []stepEnd{}}
	err := fold(r, id, events, func(ev rollout.Event) error {
		if ev.Type != rollout.StepEnded || !ev.Outcome.Final() || ev.Step.Host != rollout.Localhost {
			return nil
		}
		task := taskName(r.Plan.Task(*ev.Step))
		e.Steps = append(e.Steps, stepEnd{task, ev.At, ev.Outcome.Kind, ev.Outcome.Message})
		note, ok := ev.Outcome.Notes[probe.Note]
		if !ok {
			return nil
		}
		seen := &probesSeen{Task: task, At: ev.At}
		if err := json.Unmarshal([]byte(note), &seen.Evidence); err != nil {
			return fmt.Errorf("what %q saw of Services cannot be read (was it another version of fleetd?): %w", task, err)
		}
		e.Probes = seen
		return nil
	})
	if err != nil {
		return err
	}
	e.take(r)
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(e)
	}
	var b bytes.Buffer
	e.markdown(&b)
	_, err = w.Write(b.Bytes())
	return err
}

// take is what the run itself tells.
func (e *evidence) take(r *rollout.Run) {
	e.Status, e.Start, e.Undoes, e.Source, e.Plan, e.Fleetd = r.Status, r.Started, r.Plan.Undoes, r.Plan.Source, r.Plan.Digest, r.Plan.Fleetd
	if r.Halt != nil {
		e.Halt = r.Halt.Reason
	}
	if !r.Ended.IsZero() {
		e.End = &r.Ended
	}
	if r.By.User != "" {
		e.By = r.By.User + "@" + r.By.Host
	}
	e.Hosts = recapOf(e.Run, r, nil).Hosts
}

func (e *evidence) markdown(w io.Writer) {
	fmt.Fprintf(w, "# Run %s: %s\n\n", cell(e.Run), e.verdict())
	ended := "not ended"
	if e.End != nil {
		ended = e.End.Local().Format(time.DateTime)
	}
	fmt.Fprintf(w, "- From %s to %s (%s)", e.Start.Local().Format(time.DateTime), ended, e.Start.Local().Format("-07:00"))
	if e.By != "" {
		fmt.Fprintf(w, ", by %s", cell(e.By))
	}
	what := fmt.Sprintf("playbook %s, inventory %s", e.Source.Playbook, strings.Join(e.Source.Inventories, " + "))
	if e.Undoes != "" {
		what = "undo of run " + e.Undoes
	}
	fmt.Fprintf(w, "\n- %s\n- Plan %.12s, fleetd %s\n", cell(what), e.Plan, cell(e.Fleetd))
	if e.Halt != "" {
		fmt.Fprintf(w, "- Halted: %s\n", cell(e.Halt))
	}
	fmt.Fprintf(w, "\n## What was done to the cluster\n\n")
	if len(e.Steps) == 0 {
		fmt.Fprintln(w, "Nothing.")
	} else {
		fmt.Fprintln(w, "| ended | step | how | |\n|---|---|---|---|")
	}
	for _, s := range e.Steps {
		fmt.Fprintf(w, "| %s | %s | %s | %s |\n", clock(s.Ended), cell(s.Task), s.Outcome, cell(s.Message))
	}
	fmt.Fprintf(w, "\n## What Services answered\n\n")
	switch {
	case e.Probes == nil:
		fmt.Fprintln(w, "Nobody asked: the run came to no fleetd.calico.probe.")
	case e.Probes.Baseline:
		fmt.Fprintln(w, "They were asked before the change only: no step behind it looked.")
		e.Probes.silences(w)
	default:
		e.Probes.markdown(w)
	}
}

func (e *evidence) verdict() string {
	if e.Probes == nil || e.Probes.Baseline {
		return string(e.Status)
	}
	lost := len(e.Probes.Lost())
	switch w := e.Probes.Worst(); {
	case lost == 1:
		return fmt.Sprintf("%s, one path to a Service does not answer", e.Status)
	case lost > 1:
		return fmt.Sprintf("%s, %d paths to Services do not answer", e.Status, lost)
	case e.Probes.Answering() == 0:
		return fmt.Sprintf("%s, no evidence of Services", e.Status)
	case w == nil:
		return fmt.Sprintf("%s, Services answered all the time", e.Status)
	default:
		return fmt.Sprintf("%s, the longest time without an answer was %s", e.Status, w.Longest)
	}
}

func (p *probesSeen) markdown(w io.Writer) {
	fmt.Fprintf(w, "Asked from %d machines, every path every %s. Counted from before the change until %q at %s. A gap is the time from the last answer before it to the first one after.\n\n",
		p.Machines, p.Interval, cell(p.Task), clock(p.At))
	fmt.Fprintln(w, "| path | asked from | answers | failures | longest gap | now | carried by | client's address |\n|---|---|---|---|---|---|---|---|")
	for _, r := range p.Paths {
		if r.Protocol.Open() || r.Answered == 0 {
			continue
		}
		fmt.Fprintf(w, "| %s | %s | %d | %d | %s | %s | %s | %s |\n", cell(r.Path.String()), asked(r), r.OK, r.Failed, p.gap(r), standing(r), carrier(r), client(r))
	}
	open := false
	for _, r := range p.Paths {
		if !r.Protocol.Open() || r.Answered == 0 {
			continue
		}
		if !open {
			fmt.Fprintf(w, "\nOne connection that stays open:\n\n| path | asked from | questions answered | cut |\n|---|---|---|---|\n")
			open = true
		}
		fmt.Fprintf(w, "| %s | %s | %d | %s |\n", cell(r.Path.String()), asked(r), r.OK, orNone(r.Cut))
	}
	p.silences(w)
}

// silences are what shows nothing, and why.
func (p *probesSeen) silences(w io.Writer) {
	var lines []string
	for _, s := range p.Silent {
		lines = append(lines, "nothing is known of "+s)
	}
	for _, r := range p.Paths {
		if len(r.Mute) > 0 {
			lines = append(lines, fmt.Sprintf("%s: did not answer before: %s", r.Where(), namesOf(r.Mute)))
		}
		if len(r.Stopped) > 0 {
			lines = append(lines, fmt.Sprintf("%s: nobody asked any more at the end: %s", r.Where(), namesOf(r.Stopped)))
		}
	}
	if len(lines) > 0 {
		fmt.Fprintf(w, "\nNo evidence:\n\n")
	}
	for _, l := range lines {
		fmt.Fprintf(w, "- %s\n", cell(l))
	}
}

func asked(r probe.Row) string {
	if r.Bastion {
		return "the bastion"
	}
	return fmt.Sprintf("%d nodes", r.Answered)
}

func (p *probesSeen) gap(r probe.Row) string {
	if r.Longest == 0 {
		return "none"
	}
	until := "lasts"
	if r.Ago > 0 {
		until = "until " + clock(p.At.Add(-r.Ago.Duration()))
	}
	return fmt.Sprintf("%d ms (%s, %s)", int64(r.Longest), cell(r.LongestFrom), until)
}

func standing(r probe.Row) string {
	if len(r.Lost) > 0 {
		return "**no answer** from " + cell(namesOf(r.Lost))
	}
	if len(r.Stopped) == r.Answered {
		return "not known"
	}
	return "answers"
}

// carrier says who answers, as far as it can be told.
func carrier(r probe.Row) string {
	switch {
	case len(r.Carried) > 0:
		return "**kube-proxy's rules** on " + cell(namesOf(r.Carried))
	case r.Counted == 0:
		return "cannot be told"
	case r.Ruled > 0:
		return fmt.Sprintf("not kube-proxy's rules: on %d nodes they are there, and count nothing", r.Ruled)
	}
	return "not kube-proxy's rules: there are none"
}

func client(r probe.Row) string {
	switch {
	case r.Kept+r.Other == 0:
		return "cannot be seen"
	case r.Other == 0:
		return "kept"
	case r.Kept == 0:
		return "another one"
	}
	return fmt.Sprintf("kept from %d, another one from %d", r.Kept, r.Other)
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "never"
	}
	return cell(namesOf(names))
}

// cell is a text in a table of Markdown: what a node or a cluster says must not be
// able to draw anything there.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "`", "'", "<", "&lt;", "[", `\[`, "*", `\*`, "_", `\_`, "\n", " ").Replace(text.Printable(s))
}
