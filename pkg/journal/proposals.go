package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// Proposal is a plan that waits for somebody else to approve it.
type Proposal struct {
	ID int64
	// Digest is that of the plan. What is approved is that, and nothing else.
	Digest string
	// By has proposed it, At then; after Until nobody can approve it any more.
	By        string
	At, Until time.Time
	// Approved is who has approved it last; "" = nobody. What has not begun by
	// ApprovedUntil has to be approved again.
	Approved      string
	ApprovedAt    time.Time
	ApprovedUntil time.Time
	// Run is what came of it; "" = nothing was begun yet.
	Run string
	// Refused is why it was not begun although it was approved; "" = it was not refused.
	// It may be approved again.
	Refused string
}

// Ready reports whether it may be begun: it was approved, not long ago, and has not been.
func (p Proposal) Ready(now time.Time) bool {
	return p.Run == "" && p.Approved != "" && now.Before(p.ApprovedUntil)
}

// Open reports whether it may be approved.
func (p Proposal) Open(now time.Time) bool {
	return p.Run == "" && !p.Ready(now) && now.Before(p.Until)
}

// Why a proposal is not approved, or not begun.
var (
	ErrNoProposal  = errors.New("there is no such proposal")
	ErrOwnProposal = errors.New("who has proposed a plan does not approve it")
	ErrNotOpen     = errors.New("it does not wait for an approval")
	ErrOtherDigest = errors.New("it is not the plan that was read")
	ErrNotApproved = errors.New("it is not approved, or no longer")
)

// Propose keeps a plan until somebody approves it, or until then. The same plan is
// proposed once: again, it is the proposal that waits already, whoever it is of.
func (j *Journal) Propose(ctx context.Context, plan *rollout.Plan, by string, now, until time.Time) (Proposal, error) {
	p := Proposal{Digest: plan.Digest, By: by, At: now, Until: until}
	packed, _, err := pack(plan)
	if err != nil {
		return p, fmt.Errorf("cannot keep the plan: %w", err)
	}
	err = j.write(true, func(ctx context.Context) error {
		waiting, err := proposals(ctx, j.conn, `digest = ? AND run = '' AND until > ? ORDER BY id DESC LIMIT 1`, plan.Digest, now.UnixNano())
		if err != nil {
			return err
		}
		if len(waiting) > 0 {
			p = waiting[0]
			return nil
		}
		res, err := j.conn.ExecContext(ctx, `INSERT INTO proposals (digest, plan, by, at, until) VALUES (?, ?, ?, ?, ?)`,
			p.Digest, packed, by, now.UnixNano(), until.UnixNano())
		if err == nil {
			p.ID, err = res.LastInsertId()
		}
		return err
	})
	if err != nil {
		return p, fmt.Errorf("cannot keep the plan: %w", j.explain(err))
	}
	return p, nil
}

// Approve approves a proposal, for as long as until; digest is that of the plan that
// was read. Of two who do so at once one is told that it is approved already.
func (j *Journal) Approve(ctx context.Context, id int64, digest, by string, now, until time.Time) (Proposal, error) {
	var p Proposal
	err := j.write(true, func(ctx context.Context) (err error) {
		if p, err = proposal(ctx, j.conn, id); err != nil {
			return err
		}
		switch {
		case p.Digest != digest:
			return ErrOtherDigest
		case p.Run != "":
			return fmt.Errorf("%w: run %s has begun it", ErrNotOpen, p.Run)
		case p.Ready(now):
			return fmt.Errorf("%w: %s has approved it", ErrNotOpen, p.Approved)
		case !p.Open(now):
			return fmt.Errorf("%w: it is too old", ErrNotOpen)
		case p.By == by:
			return ErrOwnProposal
		}
		p.Approved, p.ApprovedAt, p.ApprovedUntil, p.Refused = by, now, until, ""
		_, err = j.conn.ExecContext(ctx, `UPDATE proposals SET approved = ?, approved_at = ?, approved_until = ?, refused = '' WHERE id = ?`,
			by, now.UnixNano(), until.UnixNano(), id)
		return err
	})
	if err != nil {
		return p, fmt.Errorf("cannot approve proposal %d: %w", id, j.explain(err))
	}
	return p, nil
}

// Refuse takes back the approval of a proposal that could not be begun, and says why.
func (j *Journal) Refuse(ctx context.Context, id int64, why string) error {
	err := j.write(true, func(ctx context.Context) error {
		_, err := j.conn.ExecContext(ctx, `UPDATE proposals SET approved = '', approved_at = 0, approved_until = 0, refused = ? WHERE id = ? AND run = ''`, why, id)
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot say why proposal %d was not begun: %w", id, j.explain(err))
	}
	return nil
}

// BeginApproved is Begin for the plan of a proposal, which it takes up in the same
// moment: however often it is tried, one run begins.
func (j *Journal) BeginApproved(ctx context.Context, run string, now time.Time, reach []byte, id int64, digest string) (*Writer, error) {
	return j.begin(ctx, run, now, reach, func(ctx context.Context) error {
		res, err := j.conn.ExecContext(ctx, `UPDATE proposals SET run = ? WHERE id = ? AND digest = ? AND run = '' AND approved <> '' AND approved_until > ?`,
			run, id, digest, now.UnixNano())
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n != 1 {
			return errors.Join(err, fmt.Errorf("proposal %d: %w", id, ErrNotApproved))
		}
		return nil
	})
}

// Proposals are all of them, the newest first.
func (j *Journal) Proposals(ctx context.Context) ([]Proposal, error) {
	// A journal that an earlier fleetd wrote, opened to be read, has none.
	if v, err := version(ctx, j.db); err != nil || v < proposalsSchema {
		return nil, err
	}
	out, err := proposals(ctx, j.db, "true ORDER BY id DESC")
	if err != nil {
		return nil, j.cannot("read", err)
	}
	return out, nil
}

// Proposal is the one of that number, with its plan.
func (j *Journal) Proposal(ctx context.Context, id int64) (Proposal, *rollout.Plan, error) {
	if v, err := version(ctx, j.db); err != nil || v < proposalsSchema {
		return Proposal{}, nil, errors.Join(err, ErrNoProposal)
	}
	p, err := proposal(ctx, j.db, id)
	if err != nil {
		return p, nil, err
	}
	var packed []byte
	var raw json.RawMessage
	err = j.db.QueryRowContext(ctx, `SELECT plan FROM proposals WHERE id = ?`, id).Scan(&packed)
	if err == nil {
		err = unpack(packed, &raw)
	}
	var plan rollout.Plan
	if err == nil {
		plan, err = rollout.ReadPlan(raw) // which checks its digest
	}
	if err == nil && plan.Digest != p.Digest {
		err = ErrOtherDigest
	}
	if err != nil {
		return p, nil, fmt.Errorf("cannot read the plan of proposal %d: %w", id, j.explain(err))
	}
	return p, &plan, nil
}

func proposal(ctx context.Context, q rowser, id int64) (Proposal, error) {
	found, err := proposals(ctx, q, "id = ?", id)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("%w: %d", ErrNoProposal, id)
	}
	if err != nil {
		return Proposal{}, err
	}
	return found[0], nil
}

type rowser interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func proposals(ctx context.Context, q rowser, where string, args ...any) (out []Proposal, err error) {
	rows, err := q.QueryContext(ctx, `SELECT id, digest, by, at, until, approved, approved_at, approved_until, run, refused FROM proposals WHERE `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var p Proposal
		var at, until, approved, approvedUntil int64
		if err := rows.Scan(&p.ID, &p.Digest, &p.By, &at, &until, &p.Approved, &approved, &approvedUntil, &p.Run, &p.Refused); err != nil {
			return nil, err
		}
		p.At, p.Until, p.ApprovedAt, p.ApprovedUntil = time.Unix(0, at), time.Unix(0, until), time.Unix(0, approved), time.Unix(0, approvedUntil)
		out = append(out, p)
	}
	return out, rows.Err()
}
