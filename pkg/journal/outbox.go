package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Notice is something that a webhook is to be told.
type Notice struct {
	ID      int64
	Webhook string
	// Body is JSON.
	Body []byte
	// Tries is how often it was sent in vain.
	Tries int
}

// Mark is up to where something was told of: Source names it, Seq is a number of its.
type Mark struct {
	Source string
	Seq    int64
}

// MostNotices is how many notices wait for one webhook. Where there are more, the
// oldest is dropped: what happened last matters most.
const MostNotices = 1000

// Tell puts notices into the queue, and remembers the marks, both or neither: so what
// was seen is told once, whenever who sees it dies.
func (j *Journal) Tell(ctx context.Context, marks []Mark, notices []Notice, now time.Time) error {
	return j.outbox(ctx, func(ctx context.Context) error {
		for _, m := range marks {
			if _, err := j.conn.ExecContext(ctx, `INSERT OR REPLACE INTO marks (source, seq) VALUES (?, ?)`, m.Source, m.Seq); err != nil {
				return err
			}
		}
		full := map[string]bool{}
		for _, n := range notices {
			if _, err := j.conn.ExecContext(ctx, `INSERT INTO notices (webhook, body) VALUES (?, ?)`, n.Webhook, string(n.Body)); err != nil {
				return err
			}
			full[n.Webhook] = true
		}
		for webhook := range full {
			res, err := j.conn.ExecContext(ctx, `DELETE FROM notices WHERE webhook = ?1 AND id <= (
				SELECT id FROM notices WHERE webhook = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)`, webhook, MostNotices)
			if err != nil {
				return err
			}
			if n, err := res.RowsAffected(); err != nil || n > 0 {
				if err := errors.Join(err, j.countDropped(ctx, webhook, n, "more were waiting than the queue holds", now)); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// outbox changes the queue in one transaction, on the disk when it returns.
func (j *Journal) outbox(ctx context.Context, f func(context.Context) error) error {
	err := ctx.Err()
	if err == nil {
		err = j.write(true, f)
	}
	if err != nil {
		return j.cannot("write the notifications into", err)
	}
	return nil
}

func (j *Journal) countDropped(ctx context.Context, webhook string, n int64, why string, now time.Time) error {
	_, err := j.conn.ExecContext(ctx, `INSERT INTO dropped (webhook, n, at, why) VALUES (?1, ?2, ?3, ?4)
		ON CONFLICT (webhook) DO UPDATE SET n = n + ?2, at = ?3, why = ?4`, webhook, n, now.UnixNano(), why)
	return err
}

// TellOnly forgets what was for other webhooks than those: nobody sends it any more.
func (j *Journal) TellOnly(ctx context.Context, webhooks []string) error {
	names, err := json.Marshal(webhooks)
	if err != nil {
		return err
	}
	return j.outbox(ctx, func(ctx context.Context) error {
		for _, table := range []string{"notices", "dropped"} {
			if _, err := j.conn.ExecContext(ctx, `DELETE FROM `+table+` WHERE webhook NOT IN (SELECT value FROM json_each(?))`, string(names)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Told is the mark of a source; ok is false where there is none.
func (j *Journal) Told(ctx context.Context, source string) (seq int64, ok bool, err error) {
	err = j.db.QueryRowContext(ctx, `SELECT seq FROM marks WHERE source = ?`, source).Scan(&seq)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, j.cannot("read", err)
	}
	return seq, true, nil
}

// Waiting is the notice that a webhook is to be told next; nil if none waits.
func (j *Journal) Waiting(ctx context.Context, webhook string) (*Notice, error) {
	n := &Notice{Webhook: webhook}
	err := j.db.QueryRowContext(ctx, `SELECT id, body, tries FROM notices WHERE webhook = ? ORDER BY id LIMIT 1`, webhook).Scan(&n.ID, &n.Body, &n.Tries)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, j.cannot("read", err)
	}
	return n, nil
}

// Sent takes a notice out of the queue.
func (j *Journal) Sent(ctx context.Context, id int64) error {
	return j.outbox(ctx, func(ctx context.Context) error {
		_, err := j.conn.ExecContext(ctx, `DELETE FROM notices WHERE id = ?`, id)
		return err
	})
}

// Tried counts that a notice was sent in vain.
func (j *Journal) Tried(ctx context.Context, id int64) error {
	return j.outbox(ctx, func(ctx context.Context) error {
		_, err := j.conn.ExecContext(ctx, `UPDATE notices SET tries = tries + 1 WHERE id = ?`, id)
		return err
	})
}

// Drop takes a notice out of the queue that nobody was told.
func (j *Journal) Drop(ctx context.Context, n *Notice, why string, now time.Time) error {
	return j.outbox(ctx, func(ctx context.Context) error {
		res, err := j.conn.ExecContext(ctx, `DELETE FROM notices WHERE id = ?`, n.ID)
		if err != nil {
			return err
		}
		gone, err := res.RowsAffected()
		if err != nil || gone == 0 {
			return err // the queue was full meanwhile, which was counted
		}
		return j.countDropped(ctx, n.Webhook, gone, why, now)
	})
}

// Queue is how the notices for a webhook stand.
type Queue struct {
	// Waiting counts those that wait, Dropped those that nobody was told, the last at
	// DroppedAt and for that reason.
	Waiting, Dropped int64
	DroppedAt        time.Time
	Why              string
}

// Queue is how the notices for a webhook stand.
func (j *Journal) Queue(ctx context.Context, webhook string) (q Queue, err error) {
	var at int64
	err = j.db.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM notices WHERE webhook = ?1), coalesce(sum(n), 0), coalesce(max(at), 0), coalesce(max(why), '')
		FROM dropped WHERE webhook = ?1`, webhook).Scan(&q.Waiting, &q.Dropped, &at, &q.Why)
	if err != nil {
		return q, j.cannot("read", err)
	}
	if at != 0 {
		q.DroppedAt = time.Unix(0, at).UTC()
	}
	return q, nil
}

// ErrNotifying says that another process tells the webhooks.
var ErrNotifying = errors.New("another process sends the notifications of this journal")

// HoldNotices makes this process the only one that sends notices of the journal in
// dir, until release.
func HoldNotices(dir string) (release func() error, err error) {
	f, err := os.OpenFile(filepath.Join(dir, "notices.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot hold the notifications: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrNotifying
		}
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil // which gives the lock back
}
