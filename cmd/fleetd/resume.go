package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/pkg/engine"
	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/rollout"
)

func newResume() *cobra.Command {
	f := &fleetFlags{}
	c := &cobra.Command{
		Use:   "resume [RUN]",
		Short: "Go on with a run that was interrupted or cut off",
		Long: `Resume goes on with a run whose fleetd was interrupted, killed or lost its
bastion, from the journal: what is over is not done again, what was begun is
brought to its end. Without a name it takes the last run.

A run that a gate halted is over; mend the cause and apply again.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return runResume(c, f, args) },
	}
	f.addConnection(c)
	f.addState(c)
	f.addOutput(c)
	f.addVault(c)
	return c
}

func runResume(c *cobra.Command, f *fleetFlags, args []string) error {
	id, events, err := journaledRun(c.Context(), f, args)
	if err != nil {
		return err
	}
	r, err := rollout.Fold(events)
	if err != nil {
		return fmt.Errorf("cannot resume run %s: %w", id, err)
	}
	switch r.Status {
	case rollout.Done:
		fmt.Fprintf(c.OutOrStdout(), "Run %s is done; there is nothing to resume.\n", id)
		return nil
	case rollout.Halted:
		return fmt.Errorf("run %s was halted (%s), so it is over; mend the cause, then apply again", id, r.Halt.Reason)
	}
	f.adopt(r.Plan.Source)
	fl, err := openFleet(c, f, r.Plan.Source.Inventories)
	if err != nil {
		return err
	}
	defer fl.close()
	return fl.execute(c, f, again(c, "apply", r.Plan.Source), func(ctx context.Context, e *engine.Engine, _ string) (*rollout.Run, error) {
		return e.Resume(ctx, events)
	}, &id)
}

// journaledRun reads the events of the run that the argument names, or of the
// last one.
func journaledRun(ctx context.Context, f *fleetFlags, args []string) (string, []rollout.Event, error) {
	dir, err := f.stateDir()
	if err != nil {
		return "", nil, err
	}
	if !journal.Exists(dir) {
		return "", nil, fmt.Errorf("there is no journal in %s: nothing was run from here; --state names another folder", dir)
	}
	j, err := journal.Open(dir)
	if err != nil {
		return "", nil, err
	}
	defer j.Close()
	id := ""
	if len(args) == 1 {
		id = args[0]
	} else {
		runs, err := j.Runs(ctx)
		if err != nil {
			return "", nil, err
		}
		if len(runs) == 0 {
			return "", nil, errors.New("the journal holds no run")
		}
		id = runs[0]
	}
	events, err := j.Events(ctx, id)
	return id, events, err
}
