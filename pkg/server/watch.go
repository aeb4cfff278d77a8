package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/compliance"
	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/notify"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/view"
)

// watcher finds out what has happened since it was told last. It is for one goroutine,
// and the only one that sets marks.
type watcher struct {
	*notifier
	journal *journal.Journal
	// marks are those of the journal, as far as they were asked for.
	marks map[string]int64
	// runs are those that go on, folded up to their mark.
	runs map[string]*rollout.Run
	// silent are runs without a process, with their last event: where it is still the
	// last the next time, they were cut off.
	silent map[string]int64
	// unread are runs that cannot be read, which is said once.
	unread map[string]bool
}

func newWatcher(n *notifier, j *journal.Journal) *watcher {
	return &watcher{notifier: n, journal: j, marks: map[string]int64{}, runs: map[string]*rollout.Run{}, silent: map[string]int64{}, unread: map[string]bool{}}
}

// begun is the mark that says that there were marks: what was in a journal before
// anybody was to be told of it is told to nobody.
const begun = "begun"

func runSource(id string) string     { return "run/" + id }
func cutSource(id string) string     { return "cut/" + id }
func lookSource(fleet string) string { return "look/" + fleet }
func planSource(id int64) string     { return "plan/" + strconv.FormatInt(id, 10) }

// look puts what has happened into the queues.
func (w *watcher) look(ctx context.Context) error {
	under := journal.UnderWay(w.dir)
	heads, err := w.journal.Heads(ctx)
	if err != nil {
		return err
	}
	looks, err := w.journal.LastLooks(ctx)
	if err != nil {
		return err
	}
	proposals, err := w.journal.Proposals(ctx)
	if err != nil {
		return err
	}
	if _, ok, err := w.mark(ctx, begun); err != nil {
		return err
	} else if !ok {
		marks := []journal.Mark{{Source: begun, Seq: 1}}
		for _, h := range heads {
			marks = append(marks, journal.Mark{Source: runSource(h.ID), Seq: h.Seq}, journal.Mark{Source: cutSource(h.ID), Seq: h.Seq})
		}
		for _, l := range looks {
			marks = append(marks, journal.Mark{Source: lookSource(l.Fleet), Seq: l.At.UnixNano()})
		}
		for _, p := range proposals {
			marks = append(marks, journal.Mark{Source: planSource(p.ID), Seq: asked(p)})
		}
		return w.tell(ctx, marks, nil)
	}
	for _, h := range slices.Backward(heads) { // what began first is told first
		if err := w.run(ctx, h, under); err != nil {
			return err
		}
	}
	for _, l := range slices.Backward(looks) {
		if err := w.judged(ctx, l); err != nil {
			return err
		}
	}
	for _, p := range slices.Backward(proposals) {
		if err := w.proposed(ctx, p); err != nil {
			return err
		}
	}
	for len(w.pending) < mostFailures {
		select {
		case e := <-w.failures:
			w.pending = append(w.pending, e)
			continue
		default:
		}
		break
	}
	if len(w.pending) == 0 {
		return nil
	}
	if err := w.tell(ctx, nil, w.pending); err != nil {
		return err
	}
	w.pending = nil
	return nil
}

func (w *watcher) mark(ctx context.Context, source string) (int64, bool, error) {
	if seq, ok := w.marks[source]; ok {
		return seq, true, nil
	}
	seq, ok, err := w.journal.Told(ctx, source)
	if ok {
		w.marks[source] = seq
	}
	return seq, ok, err
}

// tell queues events for the webhooks that want them, and sets marks with it.
func (w *watcher) tell(ctx context.Context, marks []journal.Mark, events []notify.Event) error {
	var notices []journal.Notice
	for _, e := range events {
		raw, err := json.Marshal(e)
		if err != nil {
			return err
		}
		for _, h := range w.hooks {
			if h.Wants(e.Kind) {
				notices = append(notices, journal.Notice{Webhook: h.Name, Body: raw})
			}
		}
	}
	if err := w.journal.Tell(ctx, marks, notices, w.now()); err != nil {
		return err
	}
	for _, m := range marks {
		w.marks[m.Source] = m.Seq
	}
	return nil
}

// run tells what came to a run. One that cannot be read is told of as far as it can,
// and holds up no other.
func (w *watcher) run(ctx context.Context, h journal.Head, under func(string) (bool, error)) error {
	seq, _, err := w.mark(ctx, runSource(h.ID))
	if err != nil || w.unread[h.ID] {
		return err
	}
	r := w.runs[h.ID]
	if h.Seq == seq && r == nil {
		// Where it is not known how it stands, it may have been cut off since it was told of.
		cut, _, err := w.mark(ctx, cutSource(h.ID))
		if err != nil || cut == h.Seq || h.Seq == 0 {
			return err
		}
	}
	if r == nil {
		if r, err = w.foldTo(ctx, h.ID, seq); err != nil {
			return w.unreadable(ctx, h, err)
		}
		w.runs[h.ID] = r
	}
	const page = 256
	for {
		events, err := w.journal.After(ctx, h.ID, r.Seq, page)
		if err != nil {
			return w.unreadable(ctx, h, err)
		}
		if len(events) == 0 {
			break
		}
		told, err := w.happened(h.ID, r, events)
		if err != nil {
			return w.unreadable(ctx, h, err)
		}
		if err := w.tell(ctx, []journal.Mark{{Source: runSource(h.ID), Seq: r.Seq}}, told); err != nil {
			delete(w.runs, h.ID) // it is folded further than it was told
			return err
		}
	}
	return w.ended(ctx, h.ID, r, under)
}

// unreadable leaves out a run that cannot be read.
func (w *watcher) unreadable(ctx context.Context, h journal.Head, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	w.log.Warn("nobody is notified of what came to a run that cannot be read", "run", h.ID, "error", err)
	delete(w.runs, h.ID)
	w.unread[h.ID] = true
	return nil
}

var errFolded = errors.New("that far")

// foldTo is the run as it stood after an event.
func (w *watcher) foldTo(ctx context.Context, id string, seq int64) (*rollout.Run, error) {
	r := &rollout.Run{}
	if seq == 0 {
		return r, nil
	}
	err := w.journal.Each(ctx, id, func(e rollout.Event) error {
		if e.Seq > seq {
			return errFolded
		}
		return r.Apply(e)
	})
	if errors.Is(err, errFolded) {
		err = nil
	}
	return r, err
}

// happened adds events to a run, and says what of it is told.
func (w *watcher) happened(id string, r *rollout.Run, events []rollout.Event) (out []notify.Event, err error) {
	lost := map[string]bool{}
	if r.Status != "" {
		for _, h := range r.LostHosts() {
			lost[h] = true
		}
	}
	var at time.Time
	event := func(kind notify.Kind, title string) notify.Event {
		e := notify.New(kind, string(kind)+"/"+id+"/"+strconv.FormatInt(r.Seq, 10), at, "Run "+id+" "+title, w.see(id, r))
		e.Run = id
		return e
	}
	losses := func() {
		var news []string
		for _, h := range r.LostHosts() {
			if !lost[h] {
				lost[h] = true
				news = append(news, h)
			}
		}
		if len(news) > 0 {
			out = append(out, event(notify.NodeLost, "has lost "+some(news)).About(news))
		}
	}
	for _, e := range events {
		if err := r.Apply(e); err != nil {
			return nil, err
		}
		at = e.At
		switch e.Type {
		case rollout.RunStarted:
			who := ""
			if e.By != nil {
				who = " by " + e.By.User + "@" + e.By.Host
			}
			out = append(out, event(notify.RunStarted, fmt.Sprintf("was begun%s: %s on %s", who, cmp.Or(r.Plan.Source.Playbook, "a plan"), count(len(r.Plan.Hosts()), "host"))))
		case rollout.RunResumed:
			out = append(out, event(notify.RunResumed, "goes on"))
		case rollout.RunInterrupted:
			losses()
			how := "was interrupted"
			if r.Asked != nil && r.Asked.Verb == rollout.Pause {
				how = "was paused by " + r.Asked.By.String()
			}
			out = append(out, event(notify.RunInterrupted, how+", and can be resumed"))
		case rollout.RunHalted:
			losses()
			how := "halted"
			if r.Asked != nil && r.Asked.Verb == rollout.Abort && !e.Halt.Gate {
				how = "aborted by " + r.Asked.By.String()
			}
			h := event(notify.RunHalted, fmt.Sprintf("was %s in play %d, batch %d", how, e.Halt.Play+1, e.Halt.Batch+1))
			out = append(out, h.About(e.Halt.Hosts))
		case rollout.RunDone:
			losses()
			done := event(notify.RunDone, "is done")
			if all := r.LostHosts(); len(all) > 0 {
				done = event(notify.RunDone, "is at its end, without "+some(all)).About(all)
				done.Severity = "critical"
			}
			out = append(out, done)
		}
	}
	losses()
	return out, nil
}

// ended looks whether a run has still a process that goes on with it. One that is over
// is held no longer.
func (w *watcher) ended(ctx context.Context, id string, r *rollout.Run, under func(string) (bool, error)) error {
	if r.Status == rollout.Running {
		held, err := under(id)
		if err != nil {
			return err
		}
		if held || w.silent[id] != r.Seq {
			w.silent[id] = r.Seq
			if held {
				delete(w.silent, id)
			}
			return nil
		}
	}
	delete(w.runs, id)
	delete(w.silent, id)
	if seq, _, err := w.mark(ctx, cutSource(id)); err != nil || seq == r.Seq {
		return err
	}
	var told []notify.Event
	if r.Status == rollout.Running {
		e := notify.New(notify.RunInterrupted, "cut/"+id+"/"+strconv.FormatInt(r.Seq, 10), w.now(), "Run "+id+" was cut off: its fleetd is gone, and it can be resumed", w.see(id, r))
		e.Run = id
		told = append(told, e)
	}
	return w.tell(ctx, []journal.Mark{{Source: cutSource(id), Seq: r.Seq}}, told)
}

// asked tells one time that a plan waits for an approval from the next: it waits again
// where it was approved and could not be begun.
func asked(p journal.Proposal) int64 {
	if p.Refused != "" {
		return p.ApprovedAt.UnixNano()
	}
	return p.At.UnixNano()
}

// proposed tells that a plan waits for somebody's approval.
func (w *watcher) proposed(ctx context.Context, p journal.Proposal) error {
	seq := asked(p)
	told, known, err := w.mark(ctx, planSource(p.ID))
	if err != nil || known && told == seq {
		return err
	}
	var events []notify.Event
	if p.Open(w.now()) {
		title := fmt.Sprintf("Plan %d, proposed by %s, waits for an approval", p.ID, p.By)
		if p.Refused != "" {
			title = fmt.Sprintf("Plan %d, proposed by %s, could not be begun, and waits for an approval again", p.ID, p.By)
		}
		id := fmt.Sprintf("%s/%d/%d", notify.PlanWaiting, p.ID, seq)
		events = append(events, notify.New(notify.PlanWaiting, id, time.Unix(0, seq), title, fmt.Sprintf("/proposals/%d of fleetd serve", p.ID)))
	}
	return w.tell(ctx, []journal.Mark{{Source: planSource(p.ID), Seq: seq}}, events)
}

// judged tells what a look at a fleet has changed.
func (w *watcher) judged(ctx context.Context, l journal.Look) error {
	source, at := lookSource(l.Fleet), l.At.UnixNano()
	seq, known, err := w.mark(ctx, source)
	if err != nil || known && seq == at {
		return err
	}
	after, err := w.journal.Rulings(ctx, l.Name)
	if err != nil {
		return err
	}
	var before []rollout.Ruling
	if known {
		looks, err := w.journal.Looks(ctx, l.Fleet, 0)
		if err != nil {
			return err
		}
		// The one that was told of, if it is still kept.
		if i := slices.IndexFunc(looks, func(o journal.Look) bool { return o.At.UnixNano() == seq }); i >= 0 {
			if before, err = w.journal.Rulings(ctx, looks[i].Name); err != nil {
				return err
			}
		}
	}
	return w.tell(ctx, []journal.Mark{{Source: source, Seq: at}}, compared(l, before, after))
}

// compared is what is told of two reports: nothing where no host came to drift or could
// not be judged any more, nor the other way round.
func compared(l journal.Look, before, after []rollout.Ruling) []notify.Event {
	bad := func(s compliance.Status) bool { return s == compliance.Drift || s == compliance.Unknown }
	worse, better, now := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, c := range compliance.Changes(before, after) {
		for _, h := range c.Hosts {
			switch {
			case bad(c.Is) && !bad(c.Was):
				worse[h] = true
			case bad(c.Was) && !bad(c.Is) && c.Is != "":
				better[h] = true
			}
		}
	}
	for _, r := range after {
		if bad(compliance.Status(r.Status)) {
			now[r.Host] = true
		}
	}
	kind, hosts, said := notify.ComplianceBetter, better, "met again"
	switch {
	case len(worse) > 0:
		kind, hosts, said = notify.ComplianceWorse, worse, "not met any more, or cannot be judged"
	case len(better) == 0:
		return nil
	}
	names := slices.Sorted(maps.Keys(hosts))
	fleet := cmp.Or(l.Schedule, l.Title)
	e := notify.New(kind, "look/"+l.Name, l.At, fmt.Sprintf("Fleet %s: policies are %s on %s; %d of %s do not meet all", fleet, said, some(names), len(now), count(l.Hosts, "host")), "fleetd compliance diff")
	e.Fleet = fleet
	return []notify.Event{e.About(names)}
}

// some names few hosts, and counts many.
func some(hosts []string) string {
	const few = 3
	if len(hosts) > few {
		return count(len(hosts), "host")
	}
	return strings.ReplaceAll(view.HostRange(hosts), rollout.Localhost, "the cluster")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
