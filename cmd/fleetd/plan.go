package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/view"
	"github.com/fleetd/fleetd/pkg/words"
)

func newPlan() *cobra.Command {
	f := &fleetFlags{}
	var out string
	c := &cobra.Command{
		Use:   "plan INVENTORY",
		Short: "Show what apply would do, and change nothing",
		Long: `Plan reads the inventory and the playbook, looks at every node and at the
cluster, and shows what apply would change and why. It writes nothing anywhere
but the file of --out, which apply takes for exactly this.

Exit status: 0 nothing to do; 2 there are changes; 1 an error, also when a host
cannot be read or is not fit for its change.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return runPlan(c, f, args, out) },
	}
	f.addInventory(c)
	f.addConnection(c)
	f.addPlaybook(c)
	f.addTags(c)
	f.addState(c)
	f.addOutput(c)
	c.Flags().StringVar(&out, "out", "", "save the plan in this file")
	return c
}

func runPlan(c *cobra.Command, f *fleetFlags, args []string, out string) error {
	sources := f.sources(args)
	fl, err := openFleet(c, f, sources)
	if err != nil {
		return err
	}
	defer fl.close()
	f.tellUnfinished(c)
	plan, err := fl.plan(c)
	if err != nil {
		return err
	}
	if err := showPlan(c.OutOrStdout(), f.output, &plan); err != nil {
		return err
	}
	if out != "" {
		if err := savePlan(out, &plan); err != nil {
			return err
		}
	}
	if f.output != "json" {
		nextAfterPlan(c, &plan, out)
	}
	switch {
	case len(plan.Problems()) > 0:
		return exitCode(exitError)
	case plan.Changes() > 0:
		return exitCode(exitChanges)
	}
	return nil
}

func showPlan(w io.Writer, output string, plan *rollout.Plan) error {
	if output != "json" {
		view.Plan(w, view.StyleFor(w), plan)
		return nil
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(plan)
}

func nextAfterPlan(c *cobra.Command, plan *rollout.Plan, out string) {
	w := c.OutOrStdout()
	switch {
	case plan.Steps() == 0:
	case out != "":
		apply := words.Quote(append([]string{"fleetd", "apply", out}, access(c)...)...)
		fmt.Fprintf(w, "Next: %s    does exactly this\n", apply)
	default:
		fmt.Fprintf(w, "Next: %s    plans again and asks before it starts\n", again(c, "apply", plan.Source))
	}
}

// savePlan writes the plan whole or not at all, for the user alone: it names
// every host of the fleet.
func savePlan(file string, plan *rollout.Plan) error {
	raw, err := json.Marshal(plan)
	if err != nil {
		return fmt.Errorf("cannot save the plan: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), ".fleetd-plan-*") // mode 0600
	if err != nil {
		return fmt.Errorf("cannot save the plan: %w", err)
	}
	defer os.Remove(tmp.Name()) // gone already when all went well
	_, err = tmp.Write(append(raw, '\n'))
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("cannot save the plan: %w", err)
	}
	return nil
}
