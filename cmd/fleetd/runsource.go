package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/fleetd/fleetd/pkg/client"
	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/view"
)

// journalSource is the journal of this machine.
type journalSource struct{ f *fleetFlags }

func (s journalSource) Last(ctx context.Context) (string, error) { return s.f.runNamed(ctx, nil) }

func (s journalSource) Rows(ctx context.Context) ([]view.RunRow, error) { return s.f.runRows(ctx) }

func (s journalSource) Events(ctx context.Context, run string) iter.Seq2[rollout.Event, error] {
	return func(yield func(rollout.Event, error) bool) {
		j, err := s.f.readJournal()
		if err != nil {
			yield(rollout.Event{}, err)
			return
		}
		defer j.Close()
		err = j.Each(ctx, run, func(e rollout.Event) error {
			if !yield(e, nil) {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(rollout.Event{}, err)
		}
	}
}

// watchEvery is how often the journal is looked at for news.
const watchEvery = 500 * time.Millisecond

// Follow reads the journal alone; nothing of it gets lost.
func (s journalSource) Follow(ctx context.Context, run string, _ func(error)) iter.Seq2[client.News, error] {
	return func(yield func(client.News, error) bool) {
		if err := s.follow(ctx, run, func(n client.News) bool { return yield(n, nil) }); err != nil && !errors.Is(err, errEnough) {
			yield(client.News{}, err)
		}
	}
}

func (s journalSource) follow(ctx context.Context, run string, tell func(client.News) bool) error {
	if _, err := s.f.runNamed(ctx, []string{run}); err != nil { // there has to be a journal
		return err
	}
	dir, err := s.f.stateDir()
	if err != nil {
		return err
	}
	j, err := journal.OpenBeside(dir)
	if err != nil {
		return err
	}
	defer j.Close()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var last rollout.Event
	var playbook string
	var usual rollout.Usual
	for {
		underWay := journal.UnderWay(dir)
		for more := true; more; {
			const page = 256
			events, err := j.After(ctx, run, last.Seq, page)
			if err != nil {
				return err
			}
			for _, e := range events {
				if e.Plan != nil {
					playbook = e.Plan.Source.Playbook
				}
				if last = e; !tell(client.News{Event: &e}) {
					return errEnough
				}
			}
			more = len(events) == page
		}
		held, err := underWay(run)
		if err != nil {
			return err
		}
		if usual == nil && last.Seq > 0 {
			earlier, err := j.Earlier(ctx, run, playbook)
			if err != nil {
				return err
			}
			usual = rollout.UsualOf(earlier)
		}
		if !tell(client.News{Held: held, Quiet: time.Since(last.At), Usual: usual}) {
			return errEnough
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// errEnough ends the reading of events early.
var errEnough = errors.New("enough")

// Request waits until the run has looked, or ctx is done.
func (s journalSource) Request(ctx context.Context, run string, verb rollout.Verb, reason string) (heard bool, err error) {
	if _, err := s.f.runNamed(ctx, []string{run}); err != nil { // there has to be a journal
		return false, err
	}
	dir, err := s.f.stateDir()
	if err != nil {
		return false, err
	}
	j, err := journal.Open(dir)
	if err != nil {
		return false, err
	}
	defer j.Close()
	q, err := j.Ask(context.WithoutCancel(ctx), run, rollout.Request{Verb: verb, By: whoami(), At: time.Now(), Reason: reason})
	if err != nil {
		return false, err
	}
	answer, err := j.Await(ctx, q)
	if err == nil && answer == journal.Missed {
		err = fmt.Errorf("run %s was not %s: it ended before it looked\nfleetd runs show %s tells how", run, verb.Past(), run)
	}
	return answer == journal.Heard, err
}
