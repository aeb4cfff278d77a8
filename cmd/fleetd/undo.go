package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/pkg/calico"
	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/engine"
	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

func newUndo() *cobra.Command {
	f := &fleetFlags{}
	var yes, dryRun bool
	c := &cobra.Command{
		Use:   "undo [RUN]",
		Short: "Take back what a run did",
		Long: `Undo works out from the journal what a run changed, or may have changed, shows
the plan that takes it back, asks, and carries it out in the reverse order: the
last play first, the last task first. Without a name it takes the last run. An
undo is a run of its own: it can be resumed, and undone.

Exit status: as apply's; with --dry-run 2 if there is something to take back.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return runUndo(c, f, args, yes, dryRun) },
	}
	f.addConnection(c)
	f.addState(c)
	f.addOutput(c)
	f.addVault(c)
	fs := c.Flags()
	fs.StringArrayVarP(&f.limit, "limit", "l", nil, "only hosts of the run that match the pattern (repeatable)")
	fs.StringArrayVarP(&f.inventories, "inventory", "i", nil, "inventory to take passwords from (repeatable)")
	fs.BoolVarP(&yes, "yes", "y", false, "do not ask before the first change")
	fs.BoolVar(&dryRun, "dry-run", false, "only show the plan")
	return c
}

func runUndo(c *cobra.Command, f *fleetFlags, args []string, yes, dryRun bool) error {
	if err := f.check(); err != nil {
		return err
	}
	undone, err := f.runNamed(c.Context(), args)
	if err != nil {
		return err
	}
	h, err := take(f, journal.NewID(time.Now()))
	if err != nil {
		return err
	}
	defer func() { _ = h.release() }()
	r, err := h.journal.Run(c.Context(), undone)
	if err != nil {
		return fmt.Errorf("cannot undo run %s: %w", undone, err)
	}
	hosts, err := limitTo(r.Plan.Hosts(), f.limit)
	if err != nil {
		return err
	}
	fl, err := reopen(c, f, h.journal, undone)
	if err != nil {
		return err
	}
	defer fl.close()
	by := whoami()
	if err := h.takeCluster(c.Context(), fl.client, by); err != nil {
		return err
	}
	plan, err := fl.reverse(c, f, undone, r, hosts)
	if err != nil {
		return err
	}
	if dryRun {
		if err := showPlan(c.OutOrStdout(), f.output, &plan); err != nil {
			return err
		}
	}
	x := &execution{c: c, f: f, hold: h, fl: fl, by: by, retry: againUndo(c, undone, f.limit)}
	if !dryRun && f.output != "json" {
		x.show(&plan)
	}
	switch {
	case plan.Changes() == 0 && len(plan.Problems()) > 0:
		x.showNow()
		return exitCode(exitError)
	case plan.Changes() == 0:
		x.showNow()
		return nil
	case dryRun:
		return exitCode(exitChanges)
	}
	if !yes {
		x.showNow()
		if err := confirm(c, h.interrupted); err != nil {
			return err
		}
	}
	return x.begin(plan)
}

// reverse looks at the hosts of a run and computes the plan that takes it back.
func (fl *fleet) reverse(c *cobra.Command, f *fleetFlags, run string, r *rollout.Run, hosts []string) (rollout.Plan, error) {
	concerned := hosts
	if concerned == nil {
		concerned = r.Plan.Hosts()
	}
	observed, err := fl.look(c, func(ctx context.Context) (map[string]rollout.Observation, error) {
		return engine.Look(ctx, fl.sections(concerned), fl.observers)
	})
	if err != nil {
		return rollout.Plan{}, err
	}
	cp, err := fl.controlPlane(c.Context())
	if err != nil {
		return rollout.Plan{}, err
	}
	source := r.Plan.Source
	source.Limit = f.limit
	return rollout.Reverse(run, r, hosts, observed, basis(source, cp))
}

// sections are what is looked at of hosts that nothing new is planned for: which
// machines they are, and whether they serve.
func (fl *fleet) sections(hosts []string) map[string][]string {
	out := map[string][]string{}
	for _, h := range hosts {
		switch {
		case h != rollout.Localhost:
			out[node.Section.Name()] = append(out[node.Section.Name()], h)
			if fl.client != nil {
				out[cluster.Kubernetes.Name()] = append(out[cluster.Kubernetes.Name()], h)
			}
		case fl.client != nil:
			out[calico.Section.Name()] = []string{h}
		}
	}
	return out
}

// limitTo are the hosts that match the patterns, in Ansible's language; nil for
// all. The journal knows no groups but all.
func limitTo(hosts, limit []string) ([]string, error) {
	if len(limit) == 0 {
		return nil, nil
	}
	inv, err := inventory.Load(os.DirFS("/"), []string{strings.Join(hosts, ",") + ","}, inventory.Options{})
	if err != nil {
		return nil, err
	}
	out, err := inv.Limit(hosts, strings.Join(limit, ","))
	if err == nil && len(out) == 0 {
		err = fmt.Errorf("no host of the run is within --limit %s", strings.Join(limit, ","))
	}
	return out, err
}
