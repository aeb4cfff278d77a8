package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/view"
	"github.com/fleetd/fleetd/pkg/words"
)

func newWatch() *cobra.Command {
	f := &fleetFlags{}
	c := &cobra.Command{
		Use:   "watch [RUN]",
		Short: "Follow a run of this or another process",
		Long: `Watch says how a run stands, which hosts are at what and what they wait for, and
then shows it as its own fleetd does, to its end. It reads the journal alone: Ctrl-C
ends the watching, not the run. Without a name it takes the last run.

With --server it follows a run on another machine. A connection that is lost is made
anew, and nothing is missed meanwhile.

With -o json it tells all events of the run, from the first one on.

Exit status: as apply's, once the run is over; 1 if it was cut off; 0 if the
watching was ended.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return runWatch(c, f, args) },
	}
	f.addState(c)
	f.server.add(c, ", in place of the journal")
	f.addOutput(c)
	return c
}

func runWatch(c *cobra.Command, f *fleetFlags, args []string) error {
	if err := f.check(); err != nil {
		return err
	}
	source, err := f.runSource(c)
	if err != nil {
		return err
	}
	ctx, stop := cancelOnInterrupt(c)
	defer stop()
	id, err := runOf(ctx, source, args)
	if err != nil {
		return err
	}
	ignoreBrokenPipes()
	w := &watching{c: c, id: id, source: source, run: &rollout.Run{}}
	out := view.NewOutput(c.OutOrStdout())
	if f.output == "json" {
		err = w.asJSON(ctx, out)
	} else {
		err = w.asText(ctx, out)
	}
	stop()
	closeOutput(c, out)
	switch {
	case errors.Is(err, context.Canceled):
		again := words.Quote(append([]string{"fleetd", "watch", id}, whereRuns(c)...)...)
		fmt.Fprintf(c.ErrOrStderr(), "The run goes on without a watcher; %s looks at it again.\n", again)
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
	c      *cobra.Command
	id     string
	source runSource
	run    *rollout.Run
}

// asJSON tells all events of the run, from the first one on.
func (w *watching) asJSON(ctx context.Context, out *view.Output) error {
	events := view.NewEvents(out)
	warn := func(text string) { fmt.Fprintln(w.c.ErrOrStderr(), text) }
	for n, err := range w.source.Follow(ctx, w.id, outage(warn)) {
		switch {
		case err != nil:
			return err
		case n.Event == nil && !n.Held && w.run.Seq == 0:
			return w.never()
		case n.Event == nil && !n.Held:
			events.End(w.id, w.run, nil)
			return nil
		case n.Event == nil:
			continue
		}
		if err := w.apply(n.Event); err != nil {
			return err
		}
		events.Watch(w.run, *n.Event)
	}
	return nil
}

// asText shows the run until it is over, or was cut off.
func (w *watching) asText(ctx context.Context, out *view.Output) error {
	next := func() view.Next { return nextOf(w.c, w.id, retryOf(w.c, w.run)) }
	st := view.StyleFor(w.c.OutOrStdout())
	var p *view.Progress // nil until it is known how the run stands
	defer func() {
		if p != nil {
			p.Close()
		}
	}()
	for n, err := range w.source.Follow(ctx, w.id, outage(func(text string) { out.Line(text, true) })) {
		switch {
		case err != nil:
			return err
		case n.Event != nil:
			if err := w.apply(n.Event); err != nil {
				return err
			}
			if p != nil {
				p.Watch(w.run, *n.Event)
			}
			continue
		case w.run.Seq == 0 && !n.Held:
			return w.never()
		case w.run.Seq == 0: // it is about to begin
			continue
		case p == nil && (n.Held || w.run.Status == rollout.Running):
			standing := view.StandingOf(w.id, w.run, n.Held, n.Quiet, n.Usual, next())
			p = view.NewProgress(out, st, w.id, time.Now)
			p.Join(w.run, &standing, time.Now().Add(-n.Quiet))
		}
		// A run that is halted or interrupted is over unless somebody goes on with it.
		if n.Held {
			continue
		}
		if p != nil {
			p.Close()
			p = nil
		}
		if w.run.Status == rollout.Running {
			fmt.Fprintf(out, "\nRun %s was cut off: the fleetd that was at it is gone.\n\nNext: %s    goes on\n", w.id, next().Resume)
			return nil
		}
		view.End(out, st, w.run, next(), nil)
		return nil
	}
	return nil
}

func (w *watching) apply(e *rollout.Event) error {
	if err := w.run.Apply(*e); err != nil {
		return fmt.Errorf("run %s: %w", w.id, err)
	}
	return nil
}

// never is for a run whose fleetd ended before its first event.
func (w *watching) never() error { return fmt.Errorf("run %s has never begun", w.id) }

// outage says that a run cannot be followed for a while, and that it can be again.
func outage(say func(string)) func(error) {
	return func(err error) {
		if err == nil {
			say("The connection is back; nothing was missed.")
			return
		}
		what, _, _ := strings.Cut(err.Error(), "\n")
		say("The connection is lost, trying again; the run goes on meanwhile: " + what)
	}
}
