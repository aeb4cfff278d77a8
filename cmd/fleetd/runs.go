package main

import (
	"encoding/json"

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
	show := &cobra.Command{
		Use:   "show [RUN]",
		Short: "Tell a run step by step, with every command; without a name the last one",
		Args:  cobra.MaximumNArgs(1),
		RunE:  func(c *cobra.Command, args []string) error { return showRun(c, f, args) },
	}
	for _, c := range []*cobra.Command{c, show} {
		f.addState(c)
		f.addOutput(c)
	}
	c.AddCommand(show)
	return c
}

func listRuns(c *cobra.Command, f *fleetFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	dir, err := f.stateDir()
	if err != nil {
		return err
	}
	rows := []view.RunRow{}
	if journal.Exists(dir) {
		j, err := journal.Open(dir)
		if err != nil {
			return err
		}
		defer j.Close()
		ids, err := j.Runs(c.Context())
		if err != nil {
			return err
		}
		for _, id := range ids {
			events, err := j.Events(c.Context(), id)
			if err != nil {
				return err
			}
			r, err := rollout.Fold(events)
			if err != nil {
				return err
			}
			rows = append(rows, view.RowOf(id, r))
		}
	}
	if f.output == "json" {
		enc := json.NewEncoder(c.OutOrStdout())
		enc.SetIndent("", "  ")
		return enc.Encode(rows)
	}
	return view.Runs(c.OutOrStdout(), rows)
}

func showRun(c *cobra.Command, f *fleetFlags, args []string) error {
	if err := f.check(); err != nil {
		return err
	}
	id, events, err := journaledRun(c.Context(), f, args)
	if err != nil {
		return err
	}
	out := c.OutOrStdout()
	if f.output == "json" {
		enc := json.NewEncoder(out)
		enc.SetEscapeHTML(false)
		for _, e := range events {
			if err := enc.Encode(e); err != nil {
				return err
			}
		}
		return nil
	}
	return view.Tale(out, view.StyleFor(out), id, events)
}
