package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/view"
	"github.com/fleetd/fleetd/pkg/words"
)

func newApply() *cobra.Command {
	f := &fleetFlags{}
	a := applyFlags{}
	c := &cobra.Command{
		Use:   "apply INVENTORY | PLANFILE",
		Short: "Do what the plan says",
		Long: `Apply makes a plan of the inventory and the playbook, shows it, asks, and
carries it out. Given a plan that was saved with plan --out (or plan -o json), it
looks at the fleet again, refuses if anything has moved since, and does exactly
what was reviewed. --expect DIGEST holds it to a reviewed plan by its digest.

One run at a time changes a fleet: a lock in the state folder and a Lease in the
cluster keep others out, from before the fleet is looked at until the run ends.

The first interrupt (Ctrl-C) lets running steps come to their end and starts no
other; the second abandons them. Either way fleetd resume goes on.

Exit status: 0 done or nothing to do; 1 an error, or a host failed or could not
be reached although no gate halted the run; 3 halted by a gate, or aborted; 130
paused or interrupted.
With --dry-run or --check it is plan, with plan's exit status.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if a.dryRun {
				return runPlan(c, f, args, a.out)
			}
			if a.out != "" {
				return errors.New("--out goes with plan or --dry-run")
			}
			if a.approved != 0 {
				return runApproved(c, f, args, a)
			}
			return runApply(c, f, args, a)
		},
	}
	f.addInventory(c)
	f.addConnection(c)
	f.addPlaybook(c)
	f.addTags(c)
	f.addState(c)
	f.addOutput(c)
	f.addUntil(c)
	fs := c.Flags()
	fs.BoolVarP(&a.yes, "yes", "y", false, "do not ask before the first change")
	fs.StringVar(&a.expect, "expect", "", "digest of the plan that was reviewed; another one is refused, this one is not asked about")
	fs.Int64Var(&a.approved, "approved", 0, "the number of an approved proposal of fleetd serve, in place of a plan")
	fs.BoolVar(&a.dryRun, "dry-run", false, "only plan")
	fs.BoolVarP(&a.dryRun, "check", "C", false, "only plan (Ansible's name)")
	fs.StringVar(&a.out, "out", "", "with --dry-run: save the plan in this file")
	return c
}

type applyFlags struct {
	yes, dryRun bool
	expect      string
	out         string
	approved    int64
}

func runApply(c *cobra.Command, f *fleetFlags, args []string, a applyFlags) error {
	sources := f.sources(args)
	reviewed, err := reviewedPlan(c, sources)
	if err != nil {
		return err
	}
	o := order{sources: sources, yes: a.yes, known: reviewed != nil || a.expect != ""}
	o.check = func(p *rollout.Plan) error {
		if reviewed != nil && p.Digest != reviewed.Digest {
			return stale(c, args[0], reviewed, p)
		}
		return expected(c, p, a.expect)
	}
	o.retry = func(p *rollout.Plan) string {
		if o.known {
			return again(c, "plan", p.Source) // the reviewed one is of the past then
		}
		return again(c, "apply", p.Source)
	}
	if reviewed != nil {
		f.adopt(reviewed.Source)
		o.sources, o.shown = reviewed.Source.Inventories, true
	}
	return carryOut(c, f, o)
}

// order is how a playbook is to be carried out.
type order struct {
	sources []string
	// yes: nobody is asked. known: the plan was reviewed, so nobody has to be; shown: and
	// it was read.
	yes, known, shown bool
	// check may refuse the plan.
	check func(*rollout.Plan) error
	// retry is the command line that does what a run has left.
	retry func(*rollout.Plan) string
	// approved is the proposal whose plan it is; 0 = none.
	approved int64
	// idle is what to say where there is nothing to do.
	idle string
}

// carryOut plans a playbook, asks, and does it.
func carryOut(c *cobra.Command, f *fleetFlags, o order) error {
	p, err := openFleet(c, f, o.sources)
	if err != nil {
		return err
	}
	defer p.close()
	by := whoami()
	h, err := take(f, journal.NewID(time.Now()))
	if err != nil {
		return err
	}
	defer func() { _ = h.release() }() // told where it matters; the end of the process releases the lock too
	if err := h.takeCluster(c.Context(), p.client, by); err != nil {
		return err
	}
	plan, err := p.plan(c)
	if err != nil {
		return err
	}
	if o.check != nil {
		if err := o.check(&plan); err != nil {
			return err
		}
	}
	x := &execution{c: c, f: f, hold: h, fl: p.fleet, by: by, approved: o.approved}
	if !o.shown && f.output != "json" {
		x.show(&plan)
	}
	if plan.Steps() == 0 {
		x.showNow()
		if len(plan.Problems()) > 0 {
			return exitCode(exitError)
		}
		if o.shown || f.output == "json" {
			fmt.Fprintln(c.ErrOrStderr(), view.Summary(&plan))
		} else if o.idle != "" {
			fmt.Fprintln(c.OutOrStdout(), o.idle)
		}
		return nil
	}
	if !o.yes && !o.known && plan.Changes() > 0 {
		x.showNow()
		if err := confirm(c, h.interrupted); err != nil {
			return err
		}
	}
	x.retry = o.retry(&plan)
	return x.begin(plan)
}

// reviewedPlan reads the argument as a saved plan; nil if it is an inventory.
func reviewedPlan(c *cobra.Command, sources []string) (*rollout.Plan, error) {
	if len(sources) != 1 {
		return nil, nil
	}
	raw, err := os.ReadFile(sources[0])
	if err != nil || !rollout.IsPlan(raw) {
		return nil, nil // not one of ours; if it is not there, reading the inventory says so
	}
	if err := unchanged(c); err != nil {
		return nil, err
	}
	p, err := rollout.ReadPlan(raw)
	if err != nil {
		return nil, fmt.Errorf("cannot read the plan %s: %w", sources[0], err)
	}
	return &p, nil
}

// unchanged refuses flags that would make another plan of a saved one.
func unchanged(c *cobra.Command) error {
	for _, name := range append([]string{"limit", "extra-vars", "playbook", "kubeconfig", "kube-via"}, tagFlags...) {
		if c.Flags().Changed(name) {
			return fmt.Errorf("--%s cannot be changed for a saved plan: it is part of what was reviewed", name)
		}
	}
	return nil
}

// adopt takes over what the plan was made with.
func (f *fleetFlags) adopt(s rollout.Source) {
	f.limit, f.extraVars, f.playbook, f.kubeconfig, f.kubeVia = s.Limit, s.ExtraVars, s.Playbook, s.Kubeconfig, s.KubeVia
	f.tags, f.skipTags, f.startAtTask = s.Tags, s.SkipTags, s.StartAtTask
}

// expected holds the plan to the digest of the one that was reviewed.
func expected(c *cobra.Command, p *rollout.Plan, digest string) error {
	if digest == "" || p.Digest == digest {
		return nil
	}
	return &rollout.Problem{
		Message: fmt.Sprintf("the plan is not the one that was reviewed: its digest is %s, expected was %s; nothing was changed", p.Digest, digest),
		Hint:    again(c, "plan", p.Source) + "    shows it",
	}
}

// stale says what moved since the plan was reviewed.
func stale(c *cobra.Command, file string, old, now *rollout.Plan) error {
	w := c.ErrOrStderr()
	fmt.Fprintf(w, "fleetd: the fleet is no longer as it was when %s was made (%s); nothing was changed\n", file, old.CreatedAt.Local().Format(time.DateTime))
	for _, d := range view.Differences(old, now) {
		fmt.Fprintln(w, "  "+d)
	}
	fmt.Fprintf(w, "Next: %s --out %s    and have it reviewed again\n", again(c, "plan", old.Source), words.Quote(file))
	return exitCode(exitError)
}

// confirm asks; anything but yes is no, and so is a signal.
func confirm(c *cobra.Command, interrupted context.Context) error {
	answer, err := ask(interrupted, c, "\nDo you want to make these changes? Only \"yes\" is taken as yes: ",
		"Review the plan, then apply it with --yes, or apply a saved plan")
	switch {
	case errors.Is(err, errInterrupted):
		fmt.Fprintln(c.OutOrStdout(), "\nNothing was changed.")
		return exitCode(exitInterrupted)
	case err != nil:
		return err
	case answer != "yes":
		fmt.Fprintln(c.OutOrStdout(), "Nothing was changed.")
		return exitCode(exitError)
	}
	return nil
}

// errInterrupted says that a question was not answered but interrupted.
var errInterrupted = errors.New("interrupted")

// ask asks the person for a line. instead is what to do where nobody is there.
func ask(interrupted context.Context, c *cobra.Command, question, instead string) (string, error) {
	if in, ok := c.InOrStdin().(*os.File); ok && in == os.Stdin && !isTerminal(in) {
		return "", errors.New("there is nobody to ask: standard input is no terminal. " + instead)
	}
	fmt.Fprint(c.OutOrStdout(), question)
	type reply struct {
		line string
		err  error
	}
	answered := make(chan reply, 1)
	go func() {
		line, err := readLine(c.InOrStdin())
		answered <- reply{line, err}
	}()
	select {
	case <-interrupted.Done():
		return "", errInterrupted
	case r := <-answered:
		if r.err != nil && !errors.Is(r.err, io.EOF) {
			return "", fmt.Errorf("cannot read the answer: %w", r.err)
		}
		return strings.TrimSpace(r.line), nil
	}
}
