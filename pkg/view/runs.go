package view

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
)

// RunRow is one run in a list.
type RunRow struct {
	ID      string            `json:"id"`
	Started time.Time         `json:"started"`
	Ended   *time.Time        `json:"ended,omitempty"`
	Status  rollout.RunStatus `json:"status"`
	// Seconds is how long fleetd has worked at it.
	Seconds float64 `json:"seconds"`
	// Changes were planned, Made of them came about.
	Changes int      `json:"changes"`
	Made    int      `json:"made"`
	Lost    []string `json:"lost,omitempty"`
	// Undoes is the run that this one takes back.
	Undoes string `json:"undoes,omitempty"`
	// Playbook and Inventories are what the run was made from.
	Playbook    string   `json:"playbook"`
	Inventories []string `json:"inventories"`
	By          string   `json:"by,omitempty"`
	// Error is why nothing else is known of the run: its journal is damaged.
	Error string `json:"error,omitempty"`
}

// RowOf sums a run up. held says whether a process holds the lock for it: one
// that is running and has none was cut off, which is an interruption.
func RowOf(id string, r *rollout.Run, held bool) RunRow {
	c := recapOf(id, r, nil)
	return rowOf(id, r, held, &c)
}

func rowOf(id string, r *rollout.Run, held bool, c *recap) RunRow {
	row := RunRow{ID: id, Started: r.Started, Status: r.Status, Seconds: r.Clock.Seconds(), Changes: r.Plan.Changes(), Made: c.Changes,
		Lost: r.LostHosts(), Undoes: r.Plan.Undoes, Playbook: r.Plan.Source.Playbook, Inventories: r.Plan.Source.Inventories}
	if r.Status == rollout.Running && !held {
		row.Status = rollout.Interrupted
	}
	if !r.Ended.IsZero() {
		row.Ended = &r.Ended
	}
	if r.By.User != "" {
		row.By = r.By.String()
	}
	return row
}

// Runs writes a list of runs as a table. A run that cannot be read takes a row
// like every other, and says why.
func Runs(w io.Writer, rows []RunRow) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "No runs yet.")
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "RUN\tSTARTED\tTOOK\tSTATUS\tCHANGES\tLOST HOSTS\tBY\tPLAYBOOK")
	for _, r := range rows {
		if r.Error != "" {
			fmt.Fprintf(tw, "%s\t-\t-\tunreadable\t-\t-\t-\t%s\n", r.ID, text.Printable(r.Error))
			continue
		}
		lost, by, what := "-", "-", text.Printable(r.Playbook)
		if len(r.Lost) > 0 {
			lost = text.Printable(hostNames(r.Lost))
		}
		if r.By != "" {
			by = text.Printable(r.By)
		}
		if r.Undoes != "" {
			what = "undo of " + text.Printable(r.Undoes)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%d/%d\t%s\t%s\t%s\n", r.ID, r.Started.Local().Format(time.DateTime),
			took(time.Duration(r.Seconds*float64(time.Second))), text.Printable(string(r.Status)), r.Made, r.Changes, lost, by, what)
	}
	return tw.Flush()
}
