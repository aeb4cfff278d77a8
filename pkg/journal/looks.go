package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// Look is one time that a fleet was held against its policies.
type Look struct {
	// Name is unique; NewID makes one.
	Name string
	// Fleet tells what was held against what: looks at the same are compared.
	Fleet string
	At    time.Time
	// Title, Status and Hosts are for the list of looks.
	Title, Status string
	Hosts         int
	// Schedule names the schedule that asked for it; "" = somebody did.
	Schedule string
	// About is JSON for who shows it later; empty where an earlier fleetd looked.
	About []byte
}

// rulingKey is what a ruling is about.
type rulingKey struct{ host, policy, rule string }

func keyOf(v rollout.Ruling) rulingKey { return rulingKey{v.Host, v.Policy, v.Rule} }

// ErrNoLook says that there is no look of that name.
var ErrNoLook = errors.New("no such look")

// Judged records a look and sets Since of its rulings. Only those whose status is not
// that of the look before are written: of 10,000 hosts that is next to nothing. over
// tells the hosts that all was asked of: what earlier looks have of them and this one
// has not is over. keep is how long looks are kept.
func (j *Journal) Judged(ctx context.Context, l Look, rulings []rollout.Ruling, over func(host string) bool, keep time.Duration) error {
	for {
		// What there is is read and compared before the transaction: a run that is under
		// way writes to the file, too, and must not wait for that.
		last, err := lastLook(ctx, j.db, l.Fleet)
		if err != nil {
			return j.cannot("read", err)
		}
		have, err := latest(ctx, j.db, l.Fleet, last)
		if err != nil {
			return j.cannot("read", err)
		}
		err = j.judged(ctx, l, changed(have, l.At, rulings, over), last, keep)
		if errors.Is(err, errAnotherLook) {
			continue // it has read what is no longer the last
		}
		if err != nil {
			return j.cannot("write the compliance history into", err)
		}
		return nil
	}
}

// changed sets Since of rulings, and returns those that are to be written.
func changed(have map[rulingKey]rollout.Ruling, at time.Time, rulings []rollout.Ruling, over func(host string) bool) (out []rollout.Ruling) {
	now := make(map[rulingKey]bool, len(rulings))
	for i := range rulings {
		r := &rulings[i]
		now[keyOf(*r)] = true
		if before, known := have[keyOf(*r)]; known && before.Status == r.Status {
			r.Since = before.Since
			continue
		}
		r.Since = at
		out = append(out, *r)
	}
	for k, r := range have {
		if r.Status != "" && !now[k] && over(k.host) {
			out = append(out, rollout.Ruling{Host: k.host, Policy: k.policy, Rule: k.rule, Since: at})
		}
	}
	return out
}

// errAnotherLook says that somebody else has looked at the fleet meanwhile.
var errAnotherLook = errors.New("another look has been recorded")

func (j *Journal) judged(ctx context.Context, l Look, rulings []rollout.Ruling, last int64, keep time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return j.write(false, func(ctx context.Context) error {
		now, err := lastLook(ctx, j.conn, l.Fleet)
		if err != nil {
			return err
		}
		if now != last {
			return errAnotherLook
		}
		res, err := j.conn.ExecContext(ctx, `INSERT INTO looks (name, fleet, at, title, status, hosts, schedule, about) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			l.Name, l.Fleet, l.At.UnixNano(), l.Title, l.Status, l.Hosts, l.Schedule, string(l.About))
		if err != nil {
			return err
		}
		id, err := res.LastInsertId()
		if err != nil {
			return err
		}
		insert, err := j.conn.PrepareContext(ctx, `INSERT INTO rulings (fleet, host, policy, rule, look, status, since, text) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`)
		if err != nil {
			return err
		}
		defer insert.Close()
		for _, r := range rulings {
			if _, err := insert.ExecContext(ctx, l.Fleet, r.Host, r.Policy, r.Rule, id, r.Status, r.Since.UnixNano(), r.Text); err != nil {
				return err
			}
		}
		return j.forget(ctx, l.Fleet, l.At.Add(-keep))
	})
}

// lastLook is the last look at a fleet; 0 if there is none.
func lastLook(ctx context.Context, q queryer, fleet string) (id int64, err error) {
	err = q.QueryRowContext(ctx, `SELECT coalesce(max(id), 0) FROM looks WHERE fleet = ?`, fleet).Scan(&id)
	return id, err
}

// forget drops the looks from before, but the last two, and the rulings that no
// other look needs.
func (j *Journal) forget(ctx context.Context, fleet string, before time.Time) error {
	var oldest sql.NullInt64
	err := j.conn.QueryRowContext(ctx, `SELECT min(id) FROM (
		SELECT id FROM looks WHERE fleet = ? AND at >= ?
		UNION SELECT id FROM (SELECT id FROM looks WHERE fleet = ? ORDER BY id DESC LIMIT 2))`, fleet, before.UnixNano(), fleet).Scan(&oldest)
	if err != nil || !oldest.Valid {
		return err
	}
	res, err := j.conn.ExecContext(ctx, `DELETE FROM looks WHERE fleet = ? AND id < ?`, fleet, oldest.Int64)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return err
	}
	_, err = j.conn.ExecContext(ctx, `DELETE FROM rulings WHERE fleet = ?1 AND look < ?2 AND EXISTS (
		SELECT 1 FROM rulings AS v WHERE v.fleet = ?1 AND v.host = rulings.host AND v.policy = rulings.policy
		AND v.rule = rulings.rule AND v.look > rulings.look AND v.look <= ?2)`, fleet, oldest.Int64)
	if err != nil {
		return err
	}
	_, err = j.conn.ExecContext(ctx, `DELETE FROM rulings WHERE fleet = ? AND look <= ? AND status = ''`, fleet, oldest.Int64)
	return err
}

type rowsQueryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// latest are the rulings as they stood at a look, those that are over included.
func latest(ctx context.Context, q rowsQueryer, fleet string, look int64) (map[rulingKey]rollout.Ruling, error) {
	rows, err := q.QueryContext(ctx, `SELECT host, policy, rule, status, since, text FROM rulings
		WHERE fleet = ? AND look <= ? ORDER BY host, policy, rule, look`, fleet, look)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[rulingKey]rollout.Ruling{}
	for rows.Next() {
		var v rollout.Ruling
		var since int64
		if err := rows.Scan(&v.Host, &v.Policy, &v.Rule, &v.Status, &since, &v.Text); err != nil {
			return nil, err
		}
		v.Since = time.Unix(0, since).UTC()
		out[keyOf(v)] = v // a later one of the same comes later
	}
	return out, rows.Err()
}

// Looks are those at a fleet, the newest first; "" are those at all. At most so many
// are returned, 0 is all.
func (j *Journal) Looks(ctx context.Context, fleet string, most int) ([]Look, error) {
	if most == 0 {
		most = -1
	}
	return j.looks(ctx, `?1 = '' OR fleet = ?1 ORDER BY id DESC LIMIT ?2`, fleet, most)
}

// LastLooks are the last look at each fleet, the newest first.
func (j *Journal) LastLooks(ctx context.Context) ([]Look, error) {
	return j.looks(ctx, `id IN (SELECT max(id) FROM looks GROUP BY fleet) ORDER BY id DESC`)
}

// DailyLooks are the last look at a fleet on each day (of UTC) since then whose About
// holds a text, the oldest first.
func (j *Journal) DailyLooks(ctx context.Context, fleet string, since time.Time, about string) ([]Look, error) {
	return j.looks(ctx, `id IN (SELECT max(id) FROM looks WHERE fleet = ? AND at >= ? AND instr(about, ?) > 0 GROUP BY at / ?) ORDER BY id`,
		fleet, since.UnixNano(), about, int64(24*time.Hour))
}

// LastScheduled is the last look that a schedule has asked for; nil if there is none.
func (j *Journal) LastScheduled(ctx context.Context, schedule string) (*Look, error) {
	out, err := j.looks(ctx, `schedule = ? ORDER BY id DESC LIMIT 1`, schedule)
	if err != nil || len(out) == 0 {
		return nil, err
	}
	return &out[0], nil
}

// looks are those that a condition selects.
func (j *Journal) looks(ctx context.Context, where string, args ...any) ([]Look, error) {
	v, err := version(ctx, j.db)
	if err != nil {
		return nil, j.cannot("read", err)
	}
	from := "looks"
	switch {
	case v < looksSchema:
		return nil, nil
	case v < aboutSchema:
		from = "(SELECT *, '' AS schedule, '' AS about FROM looks) AS looks"
	}
	rows, err := j.db.QueryContext(ctx, `SELECT name, fleet, at, title, status, hosts, schedule, about FROM `+from+` WHERE `+where, args...)
	if err != nil {
		return nil, j.cannot("read", err)
	}
	defer rows.Close()
	var out []Look
	for rows.Next() {
		var l Look
		var at int64
		if err := rows.Scan(&l.Name, &l.Fleet, &at, &l.Title, &l.Status, &l.Hosts, &l.Schedule, &l.About); err != nil {
			return nil, j.cannot("read", err)
		}
		l.At = time.Unix(0, at).UTC()
		out = append(out, l)
	}
	if err := rows.Err(); err != nil {
		return nil, j.cannot("read", err)
	}
	return out, nil
}

// Rulings are those of a look, in no order.
func (j *Journal) Rulings(ctx context.Context, name string) ([]rollout.Ruling, error) {
	out, err := j.rulings(ctx, name)
	if errors.Is(err, ErrNoLook) {
		return nil, fmt.Errorf("%w: %s", err, name)
	}
	if err != nil {
		return nil, j.cannot("read", err)
	}
	return out, nil
}

func (j *Journal) rulings(ctx context.Context, name string) ([]rollout.Ruling, error) {
	if v, err := version(ctx, j.db); err != nil || v < looksSchema {
		return nil, errors.Join(err, ErrNoLook)
	}
	var id int64
	var fleet string
	err := j.db.QueryRowContext(ctx, `SELECT id, fleet FROM looks WHERE name = ?`, name).Scan(&id, &fleet)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNoLook
	}
	if err != nil {
		return nil, err
	}
	at, err := latest(ctx, j.db, fleet, id)
	if err != nil {
		return nil, err
	}
	out := make([]rollout.Ruling, 0, len(at))
	for _, v := range at {
		if v.Status != "" {
			out = append(out, v)
		}
	}
	return out, nil
}
