package view

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// RunRow is one run in a list.
type RunRow struct {
	ID      string            `json:"id"`
	Started time.Time         `json:"started"`
	Ended   *time.Time        `json:"ended,omitempty"`
	Status  rollout.RunStatus `json:"status"`
	Changes int               `json:"changes"`
	Lost    []string          `json:"lost,omitempty"`
	// Playbook and Inventories are what the run was made from.
	Playbook    string   `json:"playbook"`
	Inventories []string `json:"inventories"`
}

// RowOf sums a run up. A run that no process executes any more but that has no
// end was cut off: alive says whether its process still holds the run lock.
func RowOf(id string, r *rollout.Run) RunRow {
	row := RunRow{ID: id, Started: r.Started, Status: r.Status, Changes: r.Plan.Changes(), Lost: r.LostHosts(),
		Playbook: r.Plan.Source.Playbook, Inventories: r.Plan.Source.Inventories}
	if !r.Ended.IsZero() {
		row.Ended = &r.Ended
	}
	return row
}

// Runs writes a list of runs as a table.
func Runs(w io.Writer, rows []RunRow) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "No runs yet.")
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "RUN\tSTARTED\tTOOK\tSTATUS\tCHANGES\tLOST HOSTS\tPLAYBOOK")
	for _, r := range rows {
		d := "-"
		if r.Ended != nil {
			d = took(r.Ended.Sub(r.Started))
		}
		lost := "-"
		if len(r.Lost) > 0 {
			lost = hostNames(r.Lost)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", r.ID, r.Started.Local().Format("2006-01-02 15:04:05"), d, r.Status, r.Changes, lost, r.Playbook)
	}
	return tw.Flush()
}

// Tale tells a run step by step, with every command and every write to the
// API server, from its events.
func Tale(w io.Writer, st Style, id string, events []rollout.Event) error {
	r := &rollout.Run{}
	for _, e := range events {
		if err := r.Apply(e); err != nil {
			return fmt.Errorf("run %s: %w", id, err)
		}
		at := clock(e.At)
		if e.Step == nil {
			taleRun(w, st, at, id, r, e)
			continue
		}
		who := e.Step.Host
		if who == rollout.Localhost {
			who = "cluster"
		}
		switch e.Type {
		case rollout.StepStarted:
			if r.Step(*e.Step).Attempts == 1 {
				fmt.Fprintf(w, "%s  %s  %s %s\n", at, st.bold(who), r.Plan.Task(*e.Step).Name, st.dim("("+r.Plan.Task(*e.Step).Module+")"))
			}
		case rollout.StepOperation:
			o := e.Operation
			indent(w, fmt.Sprintf("%s  %s    %s ", o.Started.Local().Format("15:04:05"), who, prompt(o.Kind)), o.Text)
			fmt.Fprintf(w, "%s      %s\n", strings.Repeat(" ", 10+len(who)), st.dim(fmt.Sprintf("%s, %s", sshexec.Printable(o.Result), took(o.Took))))
		case rollout.StepProgress:
			indent(w, fmt.Sprintf("%s  %s    ", at, who), e.Text)
		case rollout.StepCheckpoint:
			fmt.Fprintf(w, "%s  %s    %s\n", at, who, st.dim(fmt.Sprintf("remembered %s = %s", e.Key, sshexec.Printable(e.Value))))
		case rollout.StepEnded:
			o := e.Outcome
			word := string(o.Kind)
			if o.Bad() {
				word = st.red(word)
			}
			indent(w, fmt.Sprintf("%s  %s    %s  ", at, who, word), o.Message)
			if o.Hint != "" {
				indent(w, strings.Repeat(" ", 14+len(who)), o.Hint)
			}
		}
	}
	return nil
}

func prompt(kind string) string {
	switch kind {
	case "ssh":
		return "$"
	case "api":
		return ">"
	}
	return "[" + kind + "]"
}

func taleRun(w io.Writer, st Style, at, id string, r *rollout.Run, e rollout.Event) {
	switch e.Type {
	case rollout.RunStarted:
		fmt.Fprintf(w, "%s  run %s on %s: inventory %s, playbook %s\n          %s\n", at, st.bold(id), e.At.Local().Format("2006-01-02"),
			strings.Join(r.Plan.Source.Inventories, " + "), r.Plan.Source.Playbook, Summary(&r.Plan))
	case rollout.RunHalted:
		fmt.Fprintf(w, "%s  %s: %s\n", at, st.red("halted"), e.Halt.Reason)
	default:
		fmt.Fprintf(w, "%s  %s\n", at, st.bold(strings.TrimPrefix(string(e.Type), "run.")))
	}
}

// Next are the command lines that may be typed after a run.
type Next struct {
	Show   string // tells every command of the run
	Resume string // goes on with it
	Again  string // does what is left, once the cause of a halt is mended
}

// End says how a run ended, and what to do next.
func End(w io.Writer, st Style, r *rollout.Run, next Next) {
	fmt.Fprintln(w)
	switch r.Status {
	case rollout.Done:
		fmt.Fprintf(w, "%s in %s: %s made.\n", st.green("Done"), took(r.Ended.Sub(r.Started)), count(r.Plan.Changes(), "change"))
		return
	case rollout.Interrupted:
		fmt.Fprintf(w, "%s after %s. What was begun has come to its end or is in the journal.\n", st.red("Interrupted"), took(r.Ended.Sub(r.Started)))
		fmt.Fprintf(w, "Next: %s\n", next.Resume)
		return
	}
	play := r.Plan.Plays[r.Halt.Play]
	fmt.Fprintf(w, "%s in play %q, batch %d of %d: %s.\n", st.red("Halted"), play.Name, r.Halt.Batch+1, len(play.Batches), r.Halt.Reason)
	for _, h := range r.LostHosts() {
		at, _ := r.Lost(h)
		o := r.Step(at).Outcome
		indent(w, fmt.Sprintf("\n  %s  %s: ", st.bold(hostNames([]string{h})), r.Plan.Task(at).Name), o.Message)
		if o.Hint != "" {
			indent(w, "      ", o.Hint)
		}
	}
	if rest := notBegun(r); len(rest) > 0 {
		fmt.Fprintf(w, "\nNot begun: %s.\n", hostNames(rest))
	}
	fmt.Fprintf(w, "\nNext: %s    tells every command\n      %s    goes on, once the cause is mended\n", next.Show, next.Again)
}

// notBegun are the hosts that have changes planned and of which no step was
// started.
func notBegun(r *rollout.Run) []string {
	planned, begun := map[string]bool{}, map[string]bool{}
	r.Plan.Each(func(id rollout.StepID, s rollout.PlannedStep) bool {
		planned[id.Host] = planned[id.Host] || s.Change.Action.Writes()
		begun[id.Host] = begun[id.Host] || r.Step(id) != nil
		return true
	})
	var out []string
	for _, h := range r.Plan.Hosts() {
		if planned[h] && !begun[h] {
			out = append(out, h)
		}
	}
	return out
}
