package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/pkg/engine"
	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/view"
)

func newApply() *cobra.Command {
	f := &fleetFlags{}
	var yes, dryRun bool
	var out string
	c := &cobra.Command{
		Use:   "apply INVENTORY | PLANFILE",
		Short: "Do what the plan says",
		Long: `Apply makes a plan of the inventory and the playbook, shows it, asks, and
carries it out. Given a plan that was saved with plan --out, it looks at the
fleet again, refuses if anything has moved since, and does exactly what was
reviewed.

The first interrupt (Ctrl-C) lets running steps come to their end and starts no
other; the second abandons them. Either way fleetd resume goes on.

Exit status: 0 done or nothing to do; 1 error; 3 halted by a gate; 130
interrupted. With --dry-run or --check it is plan, with plan's exit status.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if dryRun {
				return runPlan(c, f, args, out)
			}
			if out != "" {
				return errors.New("--out goes with plan or --dry-run")
			}
			return runApply(c, f, args, yes)
		},
	}
	f.addInventory(c)
	f.addConnection(c)
	f.addPlaybook(c)
	f.addState(c)
	f.addOutput(c)
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask before the first change")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only plan")
	c.Flags().BoolVarP(&dryRun, "check", "C", false, "only plan (Ansible's name)")
	c.Flags().StringVar(&out, "out", "", "with --dry-run: save the plan in this file")
	return c
}

func runApply(c *cobra.Command, f *fleetFlags, args []string, yes bool) error {
	sources := f.sources(args)
	reviewed, err := reviewedPlan(c, sources)
	if err != nil {
		return err
	}
	if reviewed != nil {
		f.adopt(reviewed.Source)
		sources = reviewed.Source.Inventories
	}
	fl, err := openFleet(c, f, sources)
	if err != nil {
		return err
	}
	defer fl.close()
	plan, err := fl.plan(c)
	if err != nil {
		return err
	}
	if reviewed != nil && plan.Digest != reviewed.Digest {
		return stale(c, args[0], reviewed, &plan)
	}
	if reviewed == nil && f.output != "json" {
		if err := showPlan(c.OutOrStdout(), f.output, &plan); err != nil {
			return err
		}
	}
	if plan.Changes() == 0 {
		if len(plan.Problems()) > 0 {
			return exitCode(exitError)
		}
		if reviewed != nil || f.output == "json" {
			fmt.Fprintln(c.ErrOrStderr(), view.Summary(&plan))
		}
		return nil
	}
	if !yes && reviewed == nil {
		if err := confirm(c); err != nil {
			return err
		}
	}
	retry := again(c, "apply", plan.Source)
	if reviewed != nil {
		retry = again(c, "plan", plan.Source) // the reviewed one is of the past then
	}
	return fl.execute(c, f, retry, func(ctx context.Context, e *engine.Engine, id string) (*rollout.Run, error) {
		return e.Execute(ctx, plan, f.forks)
	}, nil)
}

// reviewedPlan reads the argument as a saved plan; nil if it is an inventory.
func reviewedPlan(c *cobra.Command, sources []string) (*rollout.Plan, error) {
	if len(sources) != 1 {
		return nil, nil
	}
	raw, err := os.ReadFile(sources[0])
	if err != nil || !bytes.HasPrefix(raw, []byte(`{"schema":"fleetd.io/plan/`)) {
		return nil, nil // not one of ours; if it is not there, reading the inventory says so
	}
	for _, name := range []string{"limit", "extra-vars", "playbook", "kubeconfig"} {
		if c.Flags().Changed(name) {
			return nil, fmt.Errorf("--%s cannot be changed for a saved plan: it is part of what was reviewed", name)
		}
	}
	p, err := rollout.ReadPlan(raw)
	if err != nil {
		return nil, fmt.Errorf("cannot read the plan %s: %w", sources[0], err)
	}
	return &p, nil
}

// adopt takes over what the plan was made with.
func (f *fleetFlags) adopt(s rollout.Source) {
	f.limit, f.extraVars, f.playbook, f.kubeconfig = s.Limit, s.ExtraVars, s.Playbook, s.Kubeconfig
}

// stale says what moved since the plan was reviewed.
func stale(c *cobra.Command, file string, old, now *rollout.Plan) error {
	w := c.ErrOrStderr()
	fmt.Fprintf(w, "fleetd: the fleet is no longer as it was when %s was made (%s); nothing was changed\n", file, old.Source.CreatedAt.Local().Format(time.DateTime))
	for _, d := range view.Differences(old, now) {
		fmt.Fprintln(w, "  "+d)
	}
	fmt.Fprintf(w, "Next: %s --out %s    and have it reviewed again\n", again(c, "plan", old.Source), sshexec.QuoteArgv([]string{file}))
	return exitCode(exitError)
}

// confirm asks; anything but yes is no.
func confirm(c *cobra.Command) error {
	if in, ok := c.InOrStdin().(*os.File); ok && in == os.Stdin && !isTerminal(in) {
		return errors.New("there is nobody to ask: standard input is no terminal. Review the plan, then apply it with --yes, or apply a saved plan")
	}
	fmt.Fprint(c.OutOrStdout(), "\nDo you want to make these changes? Only \"yes\" is taken as yes: ")
	answer, err := readLine(c.InOrStdin())
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("cannot read the answer: %w", err)
	}
	if strings.TrimSpace(answer) != "yes" {
		fmt.Fprintln(c.OutOrStdout(), "Nothing was changed.")
		return exitCode(exitError)
	}
	return nil
}

// execute runs a plan or goes on with a run, under the run lock, with progress
// on the screen, and turns its end into an exit code.
func (fl *fleet) execute(c *cobra.Command, f *fleetFlags, retry string, start func(context.Context, *engine.Engine, string) (*rollout.Run, error), resume *string) error {
	dir, err := f.stateDir()
	if err != nil {
		return err
	}
	j, err := journal.Open(dir)
	if err != nil {
		return err
	}
	defer j.Close()
	now := time.Now()
	id := journal.NewID(now)
	if resume != nil {
		id = *resume
	}
	lock, err := journal.Acquire(dir, id)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Release() }() // the end of the process releases it too
	var w *journal.Writer
	if resume != nil {
		w, err = j.Continue(c.Context(), id)
	} else {
		w, err = j.Begin(c.Context(), id, now)
	}
	if err != nil {
		return err
	}

	ctx, ease, stop := interruptible(c)
	defer stop()
	out := c.OutOrStdout()
	st := view.StyleFor(out)
	e := &engine.Engine{Modules: fl.modules, Journal: w, Ease: ease}
	finish := func(*rollout.Run) {}
	if f.output == "json" {
		enc := json.NewEncoder(out)
		enc.SetEscapeHTML(false)
		e.Watch = func(_ *rollout.Run, ev rollout.Event) { _ = enc.Encode(ev) } // a reader that went away must not stop the run
	} else {
		p := view.NewProgress(out, st, id, time.Now)
		e.Watch = p.Watch
		finish = func(r *rollout.Run) {
			p.Close()
			view.End(out, st, r, nextOf(c, id, retry))
		}
	}
	r, err := start(ctx, e, id)
	finish(r)
	if err != nil {
		return err
	}
	switch r.Status {
	case rollout.Halted:
		return exitCode(exitHalted)
	case rollout.Interrupted:
		return exitCode(exitInterrupted)
	}
	return nil
}
