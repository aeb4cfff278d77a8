package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/view"
)

func newWatch() *cobra.Command {
	f := &fleetFlags{}
	c := &cobra.Command{
		Use:   "watch [RUN]",
		Short: "Follow a run of this or another process",
		Long: `Watch says how a run stands, which hosts are at what and what they wait for, and
then shows it as its own fleetd does, to its end. It reads the journal alone: Ctrl-C
ends the watching, not the run. Without a name it takes the last run.

With -o json it tells all events of the run, from the first one on.

Exit status: as apply's, once the run is over; 1 if it was cut off; 0 if the
watching was ended.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return runWatch(c, f, args) },
	}
	f.addState(c)
	f.addOutput(c)
	return c
}

// watchEvery is how often the journal is looked at for news.
const watchEvery = 500 * time.Millisecond

func runWatch(c *cobra.Command, f *fleetFlags, args []string) error {
	if err := f.check(); err != nil {
		return err
	}
	id, err := f.runNamed(c.Context(), args)
	if err != nil {
		return err
	}
	dir, err := f.stateDir()
	if err != nil {
		return err
	}
	j, err := journal.OpenBeside(dir)
	if err != nil {
		return err
	}
	defer j.Close()
	ctx, stop := cancelOnInterrupt(c)
	defer stop()
	ignoreBrokenPipes()
	w := &watching{c: c, id: id, dir: dir, journal: j, run: &rollout.Run{}}
	out := view.NewOutput(c.OutOrStdout())
	err = w.follow(ctx, out, f.output == "json")
	stop()
	closeOutput(c, out)
	switch {
	case errors.Is(err, context.Canceled):
		fmt.Fprintf(c.ErrOrStderr(), "The run goes on without a watcher; fleetd watch %s looks at it again.\n", id)
		return nil
	case err != nil:
		return err
	case w.run.Status == rollout.Running:
		return exitCode(exitError)
	}
	return result(w.run, nil)
}

// watching is one look at a run that another process does.
type watching struct {
	c       *cobra.Command
	id, dir string
	journal *journal.Journal
	run     *rollout.Run
}

// follow shows the run until it is over, or was cut off.
func (w *watching) follow(ctx context.Context, out *view.Output, asJSON bool) error {
	next := func() view.Next { return nextOf(w.c, w.id, retryOf(w.c, w.run)) }
	st := view.StyleFor(w.c.OutOrStdout())
	if asJSON {
		events := view.NewEvents(out)
		if _, err := w.toTheEnd(ctx, events.Watch); err != nil {
			return err
		}
		events.End(w.id, w.run, nil)
		return nil
	}
	underWay := journal.UnderWay(w.dir)
	r, err := w.journal.Run(ctx, w.id)
	if err != nil {
		return err
	}
	w.run = r
	held, err := underWay(w.id)
	if err != nil {
		return err
	}
	last, err := w.journal.After(ctx, w.id, r.Seq-1, 1)
	if err != nil || len(last) == 0 {
		return err
	}
	seen := last[0].At
	if r.Status != rollout.Running && !held {
		view.End(out, st, r, next(), nil)
		return nil
	}
	earlier, err := w.journal.Earlier(ctx, w.id, r.Plan.Source.Playbook)
	if err != nil {
		return err
	}
	standing := view.StandingOf(w.id, r, held, time.Since(seen), rollout.UsualOf(earlier), next())
	p := view.NewProgress(out, st, w.id, time.Now)
	p.Join(r, &standing, seen)
	cutOff, err := w.toTheEnd(ctx, p.Watch)
	p.Close()
	switch {
	case err != nil:
		return err
	case cutOff:
		fmt.Fprintf(out, "\nRun %s was cut off: the fleetd that was at it is gone.\n\nNext: %s    goes on\n", w.id, next().Resume)
		return nil
	}
	view.End(out, st, w.run, next(), nil)
	return nil
}

// toTheEnd takes the events that come, until the run is over or nobody is at it.
func (w *watching) toTheEnd(ctx context.Context, watch func(*rollout.Run, rollout.Event)) (cutOff bool, err error) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		underWay := journal.UnderWay(w.dir)
		for more := true; more; {
			const page = 256
			events, err := w.journal.After(ctx, w.id, w.run.Seq, page)
			if err != nil {
				return false, err
			}
			for _, e := range events {
				if err := w.run.Apply(e); err != nil {
					return false, fmt.Errorf("run %s: %w", w.id, err)
				}
				watch(w.run, e)
			}
			more = len(events) == page
		}
		held, err := underWay(w.id)
		if err != nil {
			return false, err
		}
		// A run that is halted or interrupted is over unless somebody goes on with it.
		if !held {
			return w.run.Status == rollout.Running, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}
