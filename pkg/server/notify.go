package server

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/notify"
	"github.com/fleetd/fleetd/pkg/rollout"
)

const (
	// askEvery is how often the journal is asked for what has happened.
	askEvery = 2 * time.Second
	// againAfter is when what the journal or its lock has refused is tried again.
	againAfter = 30 * time.Second
	// mostFailures is how many looks that failed wait to be written down.
	mostFailures = 64
)

// notifier tells webhooks what happens. What is to be told is in the journal before it
// is sent, and is taken out afterwards: who kills the server loses nothing, and what was
// being sent just then is sent again. Runs do not know of it, since it reads what they write.
type notifier struct {
	dir   string
	now   func() time.Time
	log   *slog.Logger
	see   func(id string, r *rollout.Run) string // the command that shows a run
	hooks []*hook
	// failures are looks that came to no report, which no journal has; pending those
	// that the one who watches has taken out, and not written down.
	failures chan notify.Event
	pending  []notify.Event

	mu      sync.Mutex
	journal *journal.Journal // nil: it cannot be opened, or another process does it
	problem *failure
}

// hook is a webhook with how it stands since this server began.
type hook struct {
	notify.Webhook
	send func(context.Context, notify.Event) error

	mu           sync.Mutex
	sent, failed uint64
	failing      *failure // of the notice that waits; nil = none was sent in vain
}

func newNotifier(o Options) (*notifier, error) {
	n := &notifier{dir: o.Config.State, now: o.Now, log: o.Log, failures: make(chan notify.Event, mostFailures)}
	n.see = func(id string, r *rollout.Run) string { return o.Next(id, r).Show }
	for _, w := range o.Config.Webhooks {
		h := &hook{Webhook: w}
		s, err := notify.NewSender(&h.Webhook)
		if err != nil {
			return nil, err
		}
		h.send = s.Send
		n.hooks = append(n.hooks, h)
	}
	return n, nil
}

// run tells until ctx is done.
func (n *notifier) run(ctx context.Context) {
	if len(n.hooks) == 0 {
		return
	}
	for ctx.Err() == nil {
		err := n.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			n.unable(err)
			pause(ctx, againAfter)
		}
	}
}

// unable remembers and tells why nothing can be told.
func (n *notifier) unable(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.problem == nil || n.problem.Error != err.Error() {
		n.log.Error("cannot send notifications", "error", err)
		n.problem = &failure{At: n.now().UTC(), Error: err.Error()}
	}
}

// session tells what one file of the journal has, until another is in its place.
func (n *notifier) session(ctx context.Context) (err error) {
	release, err := journal.HoldNotices(n.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	j, err := journal.Open(n.dir)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.journal, n.problem = j, nil
	n.mu.Unlock()
	ctx, stop := context.WithCancel(ctx)
	var sending sync.WaitGroup
	defer func() {
		stop()
		sending.Wait()
		n.mu.Lock()
		n.journal = nil
		n.mu.Unlock()
		err = errors.Join(err, j.Close())
	}()
	var names []string
	for _, h := range n.hooks {
		names = append(names, h.Name)
	}
	if err := j.TellOnly(ctx, names); err != nil {
		return err
	}
	for _, h := range n.hooks {
		sending.Go(func() { n.deliver(ctx, j, h) })
	}
	w := newWatcher(n, j)
	for ctx.Err() == nil && !j.Outdated() {
		if err := w.look(ctx); err != nil {
			return err
		}
		pause(ctx, askEvery)
	}
	return nil
}

// deliver sends what waits for a webhook, one after the other: what cannot be sent holds
// up what came later, so that they are told in their order.
func (n *notifier) deliver(ctx context.Context, j *journal.Journal, h *hook) {
	for ctx.Err() == nil {
		wait, err := n.next(ctx, j, h)
		if err != nil && ctx.Err() == nil {
			n.log.Error("cannot tell what is to be sent", "webhook", h.Name, "error", err)
			wait = againAfter
		}
		pause(ctx, wait)
	}
}

// next sends the notice that waits longest, and says when to come again.
func (n *notifier) next(ctx context.Context, j *journal.Journal, h *hook) (time.Duration, error) {
	notice, err := j.Waiting(ctx, h.Name)
	if err != nil || notice == nil {
		return askEvery, err
	}
	var e notify.Event
	if err := json.Unmarshal(notice.Body, &e); err != nil {
		return 0, j.Drop(ctx, notice, "what the journal holds of it is damaged", n.now())
	}
	err = h.send(ctx, e)
	var refused *notify.Refused
	switch {
	case err == nil:
		h.mu.Lock()
		h.sent++
		h.failing = nil
		h.mu.Unlock()
		return 0, n.written(ctx, h, func(ctx context.Context) error { return j.Sent(ctx, notice.ID) })
	case ctx.Err() != nil:
		return 0, nil
	}
	h.fails(err, n.now())
	tries := notice.Tries + 1
	n.log.Warn("a notification was not taken", "webhook", h.Name, "event", e.ID, "tries", tries, "error", err)
	if errors.As(err, &refused) || tries >= notify.MostTries {
		why := err.Error()
		return 0, n.written(ctx, h, func(ctx context.Context) error { return j.Drop(ctx, notice, why, n.now()) })
	}
	if err := j.Tried(ctx, notice.ID); err != nil {
		return 0, err
	}
	return notify.Backoff(tries, err), nil
}

// written writes down what became of a notice, however long the disk takes to be
// writable again: it must not be sent meanwhile. It does so once even where ctx is done.
func (n *notifier) written(ctx context.Context, h *hook, write func(context.Context) error) error {
	for {
		err := write(context.WithoutCancel(ctx))
		if err == nil || ctx.Err() != nil {
			return err
		}
		n.log.Error("cannot write down what became of a notification", "webhook", h.Name, "error", err)
		pause(ctx, againAfter)
	}
}

func (h *hook) fails(err error, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed++
	at := now.UTC()
	if h.failing != nil {
		at = h.failing.At
	}
	h.failing = &failure{At: at, Error: err.Error()}
}

// pause waits, or until ctx is done.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// lookFailed tells that a fleet could not be looked at. It waits for nobody.
func (n *notifier) lookFailed(fleet string, at time.Time) {
	if len(n.hooks) == 0 {
		return
	}
	e := notify.New(notify.LookFailed, "failed/"+fleet+"/"+at.UTC().Format(time.RFC3339Nano), at,
		"Fleet "+fleet+" could not be looked at; the page and the log of fleetd serve say why", "fleetd compliance history")
	e.Fleet = fleet
	select {
	case n.failures <- e:
	default:
		n.log.Error("a notification is lost: too many wait to be written", "event", e.ID)
	}
}
