package main

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/view"
)

func newPreflight() *cobra.Command {
	f := &fleetFlags{}
	c := &cobra.Command{
		Use:   "preflight INVENTORY",
		Short: "Show what has to be mended before the change, and how",
		Long: `Preflight plans, and shows of it only what keeps a host from being changed: all
that the playbook's checks, and its other tasks, can say before anything is
drained. Each problem stands once, with the hosts that have it and with what
mends it. It changes nothing.

Exit status: 0 all hosts are fit, or as they should be; 2 there is something to
mend, a host that cannot be reached included; 1 an error.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return runPreflight(c, f, args) },
	}
	f.addInventory(c)
	f.addConnection(c)
	f.addPlaybook(c)
	f.addTags(c)
	f.addState(c)
	f.addOutput(c)
	return c
}

// preflightJSON is what -o json prints.
type preflightJSON struct {
	Hosts    int           `json:"hosts"`
	Problems []hostProblem `json:"problems"`
}

type hostProblem struct {
	Host string `json:"host"`
	rollout.Problem
}

func runPreflight(c *cobra.Command, f *fleetFlags, args []string) error {
	fl, err := openFleet(c, f, f.sources(args))
	if err != nil {
		return err
	}
	defer fl.close()
	f.tellUnfinished(c)
	plan, err := fl.plan(c)
	if err != nil {
		return err
	}
	out := c.OutOrStdout()
	if f.output == "json" {
		found := preflightJSON{Hosts: len(plan.Hosts()), Problems: []hostProblem{}}
		for _, hp := range view.Singles(&plan) {
			found.Problems = append(found.Problems, hostProblem(hp))
		}
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		if err := enc.Encode(found); err != nil {
			return err
		}
	} else {
		view.Preflight(out, view.StyleFor(out), &plan)
	}
	if len(plan.Problems()) > 0 {
		return exitCode(exitChanges)
	}
	return nil
}
