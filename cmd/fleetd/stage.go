package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/pkg/kernel"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/words"
)

const stagePlaybook = "playbooks/stage.yml"

func newStage() *cobra.Command {
	f := &fleetFlags{playbook: stagePlaybook}
	c := &cobra.Command{
		Use:   "stage INVENTORY | PLANFILE",
		Short: "Download the kernel's packages to the nodes, before the change window",
		Long: `Stage downloads to every node what apply would install there, checks digests and
signatures, and installs nothing. The window then holds drain, boot and health
only: the install takes the packages from the node and needs no network, also if
the repository has moved on by then. Given a saved plan it stages exactly what that
installs, or refuses; apply takes the plan all the same.

It is a run of playbooks/stage.yml, and can be repeated, resumed and undone; it
asks nothing, since no node is disturbed. Plan shows what is staged.

Exit status: 0 all is staged; 1 an error, or a host on which it is not; 130
interrupted.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return runStage(c, f, args) },
	}
	f.addInventory(c)
	f.addConnection(c)
	f.addState(c)
	f.addOutput(c)
	return c
}

func runStage(c *cobra.Command, f *fleetFlags, args []string) error {
	sources := f.sources(args)
	reviewed, err := reviewedPlan(c, sources)
	if err != nil {
		return err
	}
	o := order{sources: sources, yes: true, idle: "All is staged, or installed.", retry: func(p *rollout.Plan) string {
		s := p.Source
		s.Playbook = ""
		return again(c, "stage", s)
	}}
	if reviewed != nil {
		f.adopt(reviewed.Source)
		f.playbook, f.tags, f.skipTags, f.startAtTask = stagePlaybook, nil, nil, ""
		f.extraVars = append(slices.Clone(f.extraVars), "stage_refresh=false")
		o.sources = reviewed.Source.Inventories
		o.check = func(p *rollout.Plan) error { return unlike(c, args[0], reviewed, p) }
		o.retry = func(*rollout.Plan) string {
			return words.Quote(slices.Concat([]string{"fleetd", "stage", args[0]}, access(c), repeated(c, "state"))...)
		}
	}
	return carryOut(c, f, o)
}

// unlike refuses to stage anything but what a plan installs.
func unlike(c *cobra.Command, file string, reviewed, now *rollout.Plan) error {
	differences := kernel.Unlike(reviewed, now)
	if len(differences) == 0 {
		return nil
	}
	w := c.ErrOrStderr()
	fmt.Fprintf(w, "fleetd: what is to be had is no longer what %s installs; nothing was downloaded\n", file)
	const most = 20
	for i, d := range differences {
		if i == most {
			fmt.Fprintf(w, "  and %d more\n", len(differences)-most)
			break
		}
		fmt.Fprintln(w, "  "+text.Printable(d))
	}
	fmt.Fprintf(w, "Next: %s --out %s    and have it reviewed again\n", again(c, "plan", reviewed.Source), words.Quote(file))
	return exitCode(exitError)
}
