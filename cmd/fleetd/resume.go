package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/pkg/client"
	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/words"
)

func newResume() *cobra.Command {
	f := &fleetFlags{}
	var past bool
	var approved int64
	c := &cobra.Command{
		Use:   "resume [RUN]",
		Short: "Go on with a run that was paused, interrupted or cut off",
		Long: `Resume goes on with a run whose fleetd was interrupted, killed or lost its
bastion, from the journal alone: what is over is not done again, what was begun is
brought to its end. Without a name it takes the last run. It needs neither the
inventory nor the playbook; passwords, which the journal does not keep, are asked
for by -k and -K or taken from the inventory that -i names.

A run that a gate halted goes on with --past-halt: the hosts that it lost stay
out, and the batches after it are judged as ever. A halt that keeps the control
plane's quorum cannot be passed.

With --server it has a fleetd serve go on with the run, on its machine and with what is
known there, and does not wait for its end.

Exit status: as apply's; with --server 0 once the run goes on.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if asked, err := f.server.client(c); err != nil || asked != nil {
				return errors.Join(err, resumeThere(c, asked, args))
			}
			if approved != 0 {
				return resumeApproved(c, f, args, approved, past)
			}
			return runResume(c, f, args, past, 0)
		},
	}
	f.addConnection(c)
	f.server.add(c, ", in place of the journal: the run goes on there")
	f.addState(c)
	f.addOutput(c)
	f.addVault(c)
	f.addUntil(c)
	c.Flags().StringArrayVarP(&f.inventories, "inventory", "i", nil, "inventory to take passwords from (repeatable)")
	c.Flags().Int64Var(&approved, "approved", 0, "the number of a proposal of fleetd serve, in place of a run: goes on with its run if that waits for its maintenance window")
	c.Flags().BoolVar(&past, "past-halt", false, "go on although a gate halted the run, without the hosts that it lost")
	return c
}

// resumeThere has a server go on with a run: on its machine, with what is known there.
func resumeThere(c *cobra.Command, asked *client.Client, args []string) error {
	if asked == nil {
		return nil
	}
	for _, name := range slices.Concat(connectionFlags, vaultFlags, []string{"inventory", "approved", "past-halt", "until", "output"}) {
		if c.Flags().Changed(name) {
			return fmt.Errorf("--%s: the run goes on on the machine of the server, where fleetd resume takes it", name)
		}
	}
	ctx, stop := cancelOnInterrupt(c)
	defer stop()
	run, err := runOf(ctx, asked, args)
	if err != nil {
		return err
	}
	goes, err := asked.Resume(ctx, run)
	if err != nil {
		return err
	}
	next := words.Quote(append([]string{"fleetd", "watch", run}, whereRuns(c)...)...)
	if !goes {
		fmt.Fprintf(c.ErrOrStderr(), "It was started, and is not at the run yet. %s shows when it is.\n", next)
		return exitCode(exitInterrupted)
	}
	fmt.Fprintf(c.OutOrStdout(), "Run %s goes on.\n\nNext: %s    follows it\n", text.Printable(run), next)
	return nil
}

// resumeApproved goes on with the run of a proposal in another maintenance window.
func resumeApproved(c *cobra.Command, f *fleetFlags, args []string, approved int64, past bool) error {
	if len(args) > 0 || past {
		return errors.New("--approved: the proposal says which run; give neither one nor --past-halt")
	}
	j, err := f.readJournal()
	if err != nil {
		return err
	}
	p, _, err := j.Proposal(c.Context(), approved)
	if err := errors.Join(err, j.Close()); err != nil {
		return err
	}
	if p.Run == "" {
		return fmt.Errorf("proposal %d: no run has begun it", approved)
	}
	return runResume(c, f, []string{p.Run}, false, approved)
}

// runResume goes on with a run; approved is the proposal whose run has to wait for its
// maintenance window, 0 = a person wants it to go on.
func runResume(c *cobra.Command, f *fleetFlags, args []string, past bool, approved int64) error {
	if err := f.check(); err != nil {
		return err
	}
	id, err := f.runNamed(c.Context(), args)
	if err != nil {
		return err
	}
	// The lock first: what is read after it stays as it is.
	h, err := take(f, id)
	if err != nil {
		return err
	}
	defer func() { _ = h.release() }()
	if approved != 0 {
		if err := waits(c.Context(), h.journal, id); err != nil {
			return err
		}
	}
	r, err := h.journal.Run(c.Context(), id)
	if err != nil {
		return fmt.Errorf("cannot resume run %s: %w", id, err)
	}
	switch {
	case r.Status == rollout.Done:
		fmt.Fprintf(c.OutOrStdout(), "Run %s is done; there is nothing to resume.\n", id)
		return nil
	case r.Status == rollout.Halted && r.Asked != nil && r.Asked.Verb == rollout.Abort:
		return &rollout.Problem{
			Message: fmt.Sprintf("run %s was %s; nobody goes on with it", id, r.Asked),
			Hint:    "plan and apply again: " + retryOf(c, r) + "; or take back what it did: " + nextOf(c, id, "").Undo,
		}
	case r.Status == rollout.Halted && !past:
		return &rollout.Problem{
			Message: fmt.Sprintf("run %s was halted: %s", id, r.Halt.Reason),
			Hint: "mend the cause, then plan and apply again; or go on without the hosts that were lost: " +
				nextOf(c, id, "").Past,
		}
	case r.Status == rollout.Halted && !r.Halt.Gate:
		return fmt.Errorf("run %s was halted, and not by a limit of failures that could be passed: %s; mend the cause, then plan and apply again", id, r.Halt.Reason)
	}
	fl, err := reopen(c, f, h.journal, id)
	if err != nil {
		return err
	}
	defer fl.close()
	by := whoami()
	if err := h.takeCluster(c.Context(), fl.client, by); err != nil {
		return err
	}
	x := &execution{c: c, f: f, hold: h, fl: fl, by: by, retry: retryOf(c, r), approved: approved}
	return x.goOn(r, past)
}

// waits returns an error if a run does not wait for its maintenance window.
func waits(ctx context.Context, j *journal.Journal, run string) error {
	all, err := j.WaitingRuns(ctx)
	if err == nil && !slices.ContainsFunc(all, func(w journal.Waiting) bool { return w.Run == run }) {
		err = fmt.Errorf("cannot resume run %s: %w", run, journal.ErrNotWaiting)
	}
	return err
}

// retryOf is the command line that does what a run was to do.
func retryOf(c *cobra.Command, r *rollout.Run) string {
	if r.Plan.Undoes != "" {
		return againUndo(c, r.Plan.Undoes, r.Plan.Source.Limit)
	}
	return again(c, "apply", r.Plan.Source)
}

// reopen wires the fleet of a run from what the journal kept.
func reopen(c *cobra.Command, f *fleetFlags, j *journal.Journal, run string) (*fleet, error) {
	raw, err := j.Reach(c.Context(), run)
	if err != nil {
		return nil, err
	}
	r, err := readReach(c, f, raw)
	if err != nil {
		return nil, err
	}
	return wire(c, f, r)
}

// runNamed is the run that the argument names, or the last one. There has to be a
// journal: looking for a run must not make one.
func (f *fleetFlags) runNamed(ctx context.Context, args []string) (string, error) {
	j, err := f.readJournal()
	if err != nil {
		return "", err
	}
	defer j.Close()
	if len(args) == 1 {
		return args[0], nil
	}
	runs, err := j.Heads(ctx)
	if err != nil {
		return "", err
	}
	if len(runs) == 0 {
		return "", errors.New("the journal holds no run")
	}
	return runs[0].ID, nil
}

// readJournal opens the journal to look at it; there has to be one.
func (f *fleetFlags) readJournal() (*journal.Journal, error) {
	dir, err := f.stateDir()
	if err != nil {
		return nil, err
	}
	if !journal.Exists(dir) {
		return nil, fmt.Errorf("there is no journal in %s: nothing was run from here; --state names another folder", dir)
	}
	return journal.OpenReadOnly(dir)
}
