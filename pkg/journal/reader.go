package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// ErrNoRun says that there is no run of that name.
var ErrNoRun = errors.New("no such run")

// errEmpty is why a run without events cannot be shown.
var errEmpty = errors.New("it has no events: fleetd ended before it began")

func (j *Journal) cannotRead(run string, err error) error {
	return fmt.Errorf("cannot read run %s: %w", run, j.explain(err))
}

// known returns an error if there is no such run, or not one for this fleetd.
func (j *Journal) known(ctx context.Context, run string) error {
	var planSchema string
	err := j.db.QueryRowContext(ctx, `SELECT plan_schema FROM `+j.runs+` WHERE id = ?`, run).Scan(&planSchema)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%w: %s", ErrNoRun, run)
	}
	if err == nil {
		err = j.foreign(planSchema)
	}
	if err != nil {
		return j.cannotRead(run, err)
	}
	return nil
}

// Reach returns what Begin was told of how the run reaches its hosts.
func (j *Journal) Reach(ctx context.Context, run string) ([]byte, error) {
	if err := j.known(ctx, run); err != nil {
		return nil, err
	}
	var packed []byte
	var reach json.RawMessage
	err := j.db.QueryRowContext(ctx, `SELECT reach FROM runs WHERE id = ?`, run).Scan(&packed)
	if err == nil {
		err = unpack(packed, &reach)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read how run %s reaches its hosts: %w", run, j.explain(err))
	}
	return reach, nil
}

// Events reads the events of a run in order.
func (j *Journal) Events(ctx context.Context, run string) ([]rollout.Event, error) {
	var out []rollout.Event
	err := j.Each(ctx, run, func(e rollout.Event) error {
		out = append(out, e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Each calls f for every event of a run in order, until f returns an error, and
// returns that. It holds few events at a time, and nothing that the run itself
// would wait for however long f takes.
func (j *Journal) Each(ctx context.Context, run string, f func(rollout.Event) error) error {
	if err := j.known(ctx, run); err != nil {
		return err
	}
	return j.after(ctx, run, 0, f)
}

// page is how many events are read at once.
const page = 256

// after is Each for the events that come after the one numbered seq.
func (j *Journal) after(ctx context.Context, run string, seq int64, f func(rollout.Event) error) error {
	return pages(func(seq int64) ([]rollout.Event, error) { return j.events(ctx, run, "", seq, page) }, seq, f)
}

// pages calls f for the events that come after the one numbered seq.
func pages(read func(after int64) ([]rollout.Event, error), seq int64, f func(rollout.Event) error) error {
	for {
		events, err := read(seq)
		if err != nil {
			return err
		}
		for _, e := range events {
			if err := f(e); err != nil {
				return err
			}
			seq = e.Seq
		}
		if len(events) < page {
			return nil
		}
	}
}

// After reads the events of a run that come after the one numbered seq, at most
// limit: for who follows a run while it is written.
func (j *Journal) After(ctx context.Context, run string, seq int64, limit int) ([]rollout.Event, error) {
	if err := j.known(ctx, run); err != nil {
		return nil, err
	}
	return j.events(ctx, run, "", seq, limit)
}

// OfHost calls f for every event of a run's steps on host in order, until f
// returns an error, and returns that.
func (j *Journal) OfHost(ctx context.Context, run, host string, f func(rollout.Event) error) error {
	if err := j.known(ctx, run); err != nil {
		return err
	}
	return pages(func(seq int64) ([]rollout.Event, error) { return j.events(ctx, run, host, seq, page) }, 0, f)
}

// events reads the next events after the one numbered seq, at most limit; with a
// host only those of its steps.
func (j *Journal) events(ctx context.Context, run, host string, seq int64, limit int) ([]rollout.Event, error) {
	rows, err := j.db.QueryContext(ctx, `SELECT seq, at, clock, type, play, task, host, attempt, body
		FROM events WHERE run = ?1 AND seq > ?2 AND (?3 = '' OR host = ?3) ORDER BY seq LIMIT ?4`, run, seq, host, limit)
	if err != nil {
		return nil, j.cannotRead(run, err)
	}
	defer rows.Close()
	var out []rollout.Event
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.seq, &r.at, &r.clock, &r.kind, &r.play, &r.task, &r.host, &r.attempt, &r.body); err != nil {
			return nil, j.cannotRead(run, err)
		}
		e, sum, err := r.event()
		if err == nil && sum != "" {
			e.Plan, err = j.plan(ctx, sum)
		}
		if err != nil {
			return nil, fmt.Errorf("event %d of run %s is damaged: %w", r.seq, run, j.explain(err))
		}
		out = append(out, e)
	}
	if err := rows.Err(); err != nil {
		return nil, j.cannotRead(run, err)
	}
	return out, nil
}

func (j *Journal) plan(ctx context.Context, sum string) (*rollout.Plan, error) {
	var packed []byte
	var plan rollout.Plan
	err := j.db.QueryRowContext(ctx, `SELECT body FROM plans WHERE sum = ?`, sum).Scan(&packed)
	if err == nil {
		err = unpack(packed, &plan)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read its plan: %w", err)
	}
	return &plan, nil
}

// Run is the fold of the run's events: of the snapshot and those after it, if
// there is one.
func (j *Journal) Run(ctx context.Context, run string) (*rollout.Run, error) {
	if err := j.known(ctx, run); err != nil {
		return nil, err
	}
	r, err := j.restore(ctx, run)
	if err != nil {
		return nil, err
	}
	if err := j.after(ctx, run, r.Seq, r.Apply); err != nil {
		return nil, j.cannotRead(run, err)
	}
	if r.Status == "" {
		return nil, j.cannotRead(run, errEmpty)
	}
	return r, nil
}

// restore is the run of the snapshot; one to which nothing happened if there is
// none, or if it is damaged: the events tell all of it.
func (j *Journal) restore(ctx context.Context, run string) (*rollout.Run, error) {
	var packed []byte
	err := j.db.QueryRowContext(ctx, `SELECT body FROM snapshots WHERE run = ?`, run).Scan(&packed)
	if errors.Is(err, sql.ErrNoRows) {
		return &rollout.Run{}, nil
	}
	if err != nil {
		return nil, j.cannotRead(run, err)
	}
	var s rollout.Snapshot
	if unpack(packed, &s) != nil {
		return &rollout.Run{}, nil
	}
	first, err := j.events(ctx, run, "", 0, 1)
	if err != nil {
		return nil, err
	}
	if len(first) == 0 || first[0].Plan == nil {
		return &rollout.Run{}, nil
	}
	r, err := rollout.Restore(*first[0].Plan, s)
	if err != nil {
		return &rollout.Run{}, nil
	}
	return r, nil
}

// Listed is a run in the list of runs.
type Listed struct {
	ID      string
	Started time.Time
	// Run is nil where Err says why the run cannot be shown.
	Run *rollout.Run
	Err error
}

// Runs lists all runs, the newest first: by the order in which they began, since
// the bastion's clock may have been set. One that cannot be read hides no other.
func (j *Journal) Runs(ctx context.Context) ([]Listed, error) {
	heads, err := j.Heads(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Listed, len(heads))
	for i, h := range heads {
		out[i] = Listed{ID: h.ID, Started: h.Started}
		out[i].Run, out[i].Err = j.Run(ctx, h.ID)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Earlier are at most three runs of the same playbook that were begun before a run, the
// last first, and no undo: how long things usually take. What cannot be read is left out.
func (j *Journal) Earlier(ctx context.Context, run, playbook string) ([]*rollout.Run, error) {
	const most, back = 3, 10 // a big run takes a second to read
	heads, err := j.Heads(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(heads, func(h Head) bool { return h.ID == run })
	if i < 0 {
		return nil, j.cannotRead(run, ErrNoRun)
	}
	var out []*rollout.Run
	for _, h := range heads[i+1 : min(len(heads), i+1+back)] {
		r, err := j.Run(ctx, h.ID)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err == nil && r.Plan.Undoes == "" && r.Plan.Source.Playbook == playbook {
			out = append(out, r)
		}
		if len(out) == most {
			break
		}
	}
	return out, nil
}

// Head is a run of which nothing is read but that it is there.
type Head struct {
	ID      string
	Started time.Time
	// Seq is the number of its last event; 0 = it has none. A run whose number has
	// not grown is as it was.
	Seq int64
}

// Heads lists all runs as Runs does, without reading them.
func (j *Journal) Heads(ctx context.Context) ([]Head, error) {
	out, err := j.heads(ctx)
	if err != nil {
		return nil, j.cannot("read", err)
	}
	return out, nil
}

func (j *Journal) heads(ctx context.Context) ([]Head, error) {
	rows, err := j.db.QueryContext(ctx, `SELECT id, started, seq FROM `+j.runs+` ORDER BY rowid DESC`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Head
	for rows.Next() {
		var h Head
		var started int64
		if err := rows.Scan(&h.ID, &started, &h.Seq); err != nil {
			return nil, err
		}
		h.Started = time.Unix(0, started)
		out = append(out, h)
	}
	return out, rows.Err()
}
