package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/words"
)

func newPause() *cobra.Command {
	c, f, reason := newRequest(rollout.Pause)
	c.Use = "pause [RUN]"
	c.Short = "Have the fleetd that is at a run stop, so that resume goes on"
	c.Long = `Pause asks the fleetd that is at a run, in whatever terminal or service, to start
no other step. What was begun comes to its end first: a node that reboots is waited
for. Then the run ends, resume goes on with it, and the recap says who paused it.
Without a name it takes the last run.

Ctrl-C in the terminal of the run is faster: it leaves steps that only wait at once.`
	c.Args = cobra.MaximumNArgs(1)
	c.RunE = func(c *cobra.Command, args []string) error { return runRequest(c, f, args, rollout.Pause, *reason) }
	return c
}

func newAbort() *cobra.Command {
	c, f, reason := newRequest(rollout.Abort)
	c.Use = "abort RUN"
	c.Short = "Have the fleetd that is at a run end it for good"
	c.Long = `Abort stops a run as pause does: no other step starts, and what was begun comes to
its end. But the run is halted then, and resume refuses it: hosts that are not
through stay as they are until undo takes the run back, or another apply goes on.`
	c.Args = func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return errors.New("which run? fleetd abort RUN; fleetd runs lists them")
		}
		return nil
	}
	c.RunE = func(c *cobra.Command, args []string) error { return runRequest(c, f, args, rollout.Abort, *reason) }
	return c
}

func newRequest(verb rollout.Verb) (*cobra.Command, *fleetFlags, *string) {
	c, f, reason := &cobra.Command{}, &fleetFlags{}, new(string)
	f.addState(c)
	f.server.add(c, ", in place of the journal")
	c.Flags().StringVar(reason, "reason", "", "why, for the recap and the journal: the run was "+verb.Past()+" by you: REASON")
	return c, f, reason
}

func runRequest(c *cobra.Command, f *fleetFlags, args []string, verb rollout.Verb, reason string) error {
	source, err := f.runSource(c)
	if err != nil {
		return err
	}
	ctx, stop := cancelOnInterrupt(c)
	defer stop()
	run, err := runOf(ctx, source, args)
	if err != nil {
		return err
	}
	next := words.Quote(append([]string{"fleetd", "watch", run}, whereRuns(c)...)...)
	heard, err := source.Request(ctx, run, verb, reason)
	if err != nil {
		return err
	}
	if !heard {
		fmt.Fprintf(c.ErrOrStderr(), "The run has not looked yet; what was asked for stands. %s follows it until then.\n", next)
		return exitCode(exitInterrupted)
	}
	fmt.Fprintf(c.OutOrStdout(), "Run %s starts no other step. It is %s once what was begun has come to its end.\n\nNext: %s    follows it until then\n", text.Printable(run), verb.Past(), next)
	return nil
}
