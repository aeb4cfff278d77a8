package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/pkg/engine"
	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/playbook"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/view"
)

// execution is one run on its way.
type execution struct {
	c    *cobra.Command
	f    *fleetFlags
	hold *hold
	fl   *fleet
	by   rollout.Person
	// retry is the command line that does what is left.
	retry string
	// approved is the proposal whose plan it is; 0 = none.
	approved int64
	// preface is what is to be read before the run.
	preface bytes.Buffer
}

// show prepares the plan to be read. Where nobody is asked, it goes the way of
// the run's own lines: a screen that stands still must not keep the run from
// beginning.
func (x *execution) show(p *rollout.Plan) {
	view.Plan(&x.preface, view.StyleFor(x.c.OutOrStdout()), p)
}

// showNow shows it before a question, or where there is no run.
func (x *execution) showNow() { _, _ = x.preface.WriteTo(x.c.OutOrStdout()) }

// errClosed is for a run that would begin or go on too late.
var errClosed = errors.New("the maintenance window has closed; nothing was changed")

// closed is errClosed where it is too late.
func (f *fleetFlags) closed() error {
	if f.until.IsZero() || time.Now().Before(f.until) {
		return nil
	}
	return fmt.Errorf("%w\n--until was %s", errClosed, f.until.Local().Format(time.DateTime))
}

// begin carries out a plan from its beginning.
func (x *execution) begin(plan rollout.Plan) error {
	if x.hold.interrupted.Err() != nil {
		fmt.Fprintln(x.c.ErrOrStderr(), "Interrupted before the run began; nothing was changed.")
		return exitCode(exitInterrupted)
	}
	x.fl.reach.bind(&plan)
	kept, err := x.fl.reach.absolute()
	if err != nil {
		return err
	}
	raw, err := json.Marshal(kept)
	if err != nil {
		return fmt.Errorf("cannot write down how the hosts are reached: %w", err)
	}
	if err := x.f.closed(); err != nil { // the fleet was looked at meanwhile
		return err
	}
	var w *journal.Writer
	if x.approved != 0 {
		w, err = x.hold.journal.BeginApproved(x.c.Context(), x.hold.run, time.Now(), raw, x.approved, plan.Digest)
	} else {
		w, err = x.hold.journal.Begin(x.c.Context(), x.hold.run, time.Now(), raw)
	}
	if err != nil {
		return err
	}
	return x.execute(w, func(ctx context.Context, e *engine.Engine) (*rollout.Run, error) {
		return e.Execute(ctx, plan, x.f.forks)
	})
}

// goOn goes on with a run as the journal has it.
func (x *execution) goOn(r *rollout.Run, past bool) error {
	if err := x.f.closed(); err != nil {
		return err
	}
	w, err := x.hold.journal.Continue(x.c.Context(), x.hold.run)
	if err != nil {
		return err
	}
	forks := 0 // those of the run, unless others are asked for
	if x.c.Flags().Changed("forks") {
		forks = x.f.forks
	}
	return x.execute(w, func(ctx context.Context, e *engine.Engine) (*rollout.Run, error) {
		return e.Resume(ctx, r, forks, past)
	})
}

// runClock is the clock that runs go by: nil, the machine's. The tests' runs faster.
var runClock engine.Clock

// execute runs the engine with progress on the screen, and turns the run's end
// into an exit code.
func (x *execution) execute(w *journal.Writer, start func(context.Context, *engine.Engine) (*rollout.Run, error)) error {
	ignoreBrokenPipes()
	ctx, ease, stop := interruptible(x.c, x.hold.lost())
	defer stop()
	x.hold.deaf() // from here on a signal ends the run, not the waiting for it
	for _, h := range x.fl.reach.hosts() {
		if x.by.Key = x.fl.pool.LoginKey(x.fl.reach.Targets[h]); x.by.Key != "" {
			break
		}
	}
	out := view.NewOutput(x.c.OutOrStdout())
	_, _ = x.preface.WriteTo(out)
	e := &engine.Engine{Modules: x.fl.modules, Resolver: playbook.NewOpenSteps(params()), Observers: x.fl.observers, Journal: w, Ease: ease, By: x.by, Clock: runClock}
	report := x.screen(out, e)
	running, ended := context.WithCancel(ctx)
	var pausing sync.WaitGroup
	pausing.Go(func() { x.pauseInTime(running) })
	r, err := start(ctx, e)
	ended()
	pausing.Wait()
	if r.Status != "" && r.Status != rollout.Running {
		// It only makes listing quick; the events are what counts.
		_ = w.Snapshot(context.WithoutCancel(ctx), r.Snapshot())
	}
	var failed error
	var journalFailed *engine.JournalError
	if errors.As(err, &journalFailed) {
		failed = journalFailed
	}
	// The run is over, so others may go on, whatever the screen does now.
	err = errors.Join(err, x.hold.release())
	report(r, failed)
	stop()
	closeOutput(x.c, out)
	return result(r, err)
}

// pauseInTime has the run pause when its maintenance window closes. It asks as others do,
// through the journal, so that what has paused the run is known to who may go on with it.
func (x *execution) pauseInTime(ctx context.Context) {
	if x.f.until.IsZero() {
		return
	}
	const look = time.Second // the clock may be set meanwhile
	for {
		wait := time.Until(x.f.until)
		if wait <= 0 {
			reason := "no step begins after " + x.f.until.Local().Format(time.DateTime)
			if x.approved != 0 {
				reason += "; fleetd serve goes on in the next"
			}
			q := rollout.Request{Verb: rollout.Pause, By: rollout.Window, At: time.Now(), Reason: reason}
			if _, err := x.hold.journal.Ask(ctx, x.hold.run, q); err == nil {
				return
			}
			// The run has not begun yet, or cannot write its journal either.
			wait = look / 10
		}
		select {
		case <-time.After(min(wait, look)):
		case <-ctx.Done():
			return
		}
	}
}

// screen shows the run as it goes; what it returns tells its end.
func (x *execution) screen(out *view.Output, e *engine.Engine) func(*rollout.Run, error) {
	if x.f.output == "json" {
		events := view.NewEvents(out)
		e.Watch = events.Watch
		return func(r *rollout.Run, failed error) { events.End(x.hold.run, r, failed) }
	}
	st := view.StyleFor(x.c.OutOrStdout())
	p := view.NewProgress(out, st, x.hold.run, time.Now)
	e.Watch = p.Watch
	return func(r *rollout.Run, failed error) {
		p.Close()
		view.End(out, st, r, nextOf(x.c, x.hold.run, x.retry), failed)
	}
}

// result is the exit code of a run: a host that was lost is never silence.
func result(r *rollout.Run, err error) error {
	switch {
	case err != nil:
		return err
	case r.Status == rollout.Halted:
		return exitCode(exitHalted)
	case r.Status == rollout.Interrupted:
		return exitCode(exitInterrupted)
	case len(r.LostHosts()) > 0:
		return exitCode(exitError)
	}
	return nil
}

// ignoreBrokenPipes makes a write to a pipe that nobody reads any more an error
// like any other. Go ends the program at one on standard output otherwise
// (package os/signal, "SIGPIPE"): `fleetd apply | head` would kill the run.
func ignoreBrokenPipes() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

// closeOutput waits until all is on the screen, or until somebody has had enough
// of a screen that stands still: the run itself is over.
func closeOutput(c *cobra.Command, out *view.Output) {
	ctx, stop := cancelOnInterrupt(c)
	defer stop()
	_ = out.Close(ctx) // who interrupts it has seen enough
}
