package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/view"
)

func newRuns() *cobra.Command {
	f := &fleetFlags{}
	c := &cobra.Command{
		Use:   "runs",
		Short: "List what was run",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return listRuns(c, f) },
	}
	var o view.TaleOptions
	show := &cobra.Command{
		Use:   "show [RUN]",
		Short: "Tell a run step by step, with every command; without a name the last one",
		Args:  cobra.MaximumNArgs(1),
		RunE:  func(c *cobra.Command, args []string) error { return showRun(c, f, args, o) },
	}
	show.Flags().StringVar(&o.Host, "host", "", "only this host; localhost is the cluster")
	show.Flags().BoolVar(&o.Failed, "failed", false, "only steps that failed or could not reach their host, with what their commands printed")
	evidence := &cobra.Command{
		Use:   "evidence [RUN]",
		Short: "A page for the change ticket, in Markdown: what was done to the cluster, and what Services answered meanwhile",
		Args:  cobra.MaximumNArgs(1),
		RunE:  func(c *cobra.Command, args []string) error { return showEvidence(c, f, args) },
	}
	for _, c := range []*cobra.Command{c, show, evidence} {
		f.addState(c)
		f.server.add(c, ", in place of the journal")
		f.addOutput(c)
	}
	c.AddCommand(show, evidence)
	return c
}

func listRuns(c *cobra.Command, f *fleetFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	source, err := f.runSource(c)
	if err != nil {
		return err
	}
	rows, err := source.Rows(c.Context())
	if err != nil {
		return err
	}
	if f.output == "json" {
		enc := json.NewEncoder(c.OutOrStdout())
		enc.SetIndent("", "  ")
		return enc.Encode(rows)
	}
	return view.Runs(c.OutOrStdout(), rows)
}

// runRows sums up every run of the journal, the newest first.
func (f *fleetFlags) runRows(ctx context.Context) ([]view.RunRow, error) {
	rows := []view.RunRow{}
	dir, err := f.stateDir()
	if err != nil || !journal.Exists(dir) {
		return rows, err
	}
	j, err := journal.OpenReadOnly(dir)
	if err != nil {
		return nil, err
	}
	defer j.Close()
	underWay := journal.UnderWay(dir)
	runs, err := j.Runs(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range runs {
		if l.Err != nil {
			rows = append(rows, view.RunRow{ID: l.ID, Started: l.Started, Error: l.Err.Error()})
			continue
		}
		held, err := underWay(l.ID)
		if err != nil {
			return nil, err
		}
		rows = append(rows, view.RowOf(l.ID, l.Run, held))
	}
	return rows, nil
}

// tellUnfinished says that a run waits to be gone on with: what a plan shows now
// may be half of its doing.
func (f *fleetFlags) tellUnfinished(c *cobra.Command) {
	rows, err := f.runRows(c.Context())
	if err != nil {
		fmt.Fprintln(c.ErrOrStderr(), "warning: "+err.Error())
		return
	}
	if len(rows) == 0 {
		return
	}
	switch last := rows[0]; last.Status {
	case rollout.Running:
		fmt.Fprintf(c.ErrOrStderr(), "warning: run %s is under way: what is shown here changes meanwhile\n", last.ID)
	case rollout.Interrupted:
		fmt.Fprintf(c.ErrOrStderr(), "warning: run %s was interrupted and is not finished: fleetd resume %s goes on with it\n", last.ID, last.ID)
	}
}

func showRun(c *cobra.Command, f *fleetFlags, args []string, o view.TaleOptions) error {
	if err := f.check(); err != nil {
		return err
	}
	if o.Failed && f.output == "json" {
		return errors.New("--failed goes with the text: in JSON, choose by outcome.kind")
	}
	source, err := f.runSource(c)
	if err != nil {
		return err
	}
	id, err := runOf(c.Context(), source, args)
	if err != nil {
		return err
	}
	out := c.OutOrStdout()
	if f.output == "json" {
		enc := json.NewEncoder(out)
		enc.SetEscapeHTML(false)
		for e, err := range source.Events(c.Context(), id) {
			if err == nil && (o.Host == "" || e.Step == nil || e.Step.Host == o.Host) {
				err = enc.Encode(e)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	return view.Tale(out, view.StyleFor(out), id, source.Events(c.Context(), id), o)
}

func showEvidence(c *cobra.Command, f *fleetFlags, args []string) error {
	if err := f.check(); err != nil {
		return err
	}
	source, err := f.runSource(c)
	if err != nil {
		return err
	}
	id, err := runOf(c.Context(), source, args)
	if err != nil {
		return err
	}
	return view.Evidence(c.OutOrStdout(), id, source.Events(c.Context(), id), f.output == "json")
}
