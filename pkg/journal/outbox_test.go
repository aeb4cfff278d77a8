package journal

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestOutbox(t *testing.T) {
	dir := t.TempDir()
	j, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, now := t.Context(), time.Date(2026, 11, 27, 2, 0, 0, 0, time.UTC)
	if _, ok, err := j.Told(ctx, "run/a"); ok || err != nil {
		t.Fatal(ok, err)
	}
	notices := func(webhook string, from, to int) (out []Notice) {
		for i := from; i <= to; i++ {
			out = append(out, Notice{Webhook: webhook, Body: fmt.Appendf(nil, "%d", i)})
		}
		return out
	}
	if err := j.Tell(ctx, []Mark{{"run/a", 3}, {"run/b", 1}}, append(notices("ops", 1, 2), notices("chat", 1, 1)...), now); err != nil {
		t.Fatal(err)
	}
	if err := j.Tell(ctx, []Mark{{"run/a", 4}}, nil, now); err != nil {
		t.Fatal(err)
	}
	// It is still there for the next process.
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if j, err = Open(dir); err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if seq, ok, err := j.Told(ctx, "run/a"); seq != 4 || !ok || err != nil {
		t.Error(seq, ok, err)
	}
	n, err := j.Waiting(ctx, "ops")
	if err != nil || n == nil || string(n.Body) != "1" || n.Tries != 0 {
		t.Fatalf("%+v, %v", n, err)
	}
	if err := errors.Join(j.Tried(ctx, n.ID), j.Tried(ctx, n.ID)); err != nil {
		t.Fatal(err)
	}
	if n, err = j.Waiting(ctx, "ops"); err != nil || n.Tries != 2 {
		t.Errorf("%+v, %v", n, err)
	}
	if err := j.Drop(ctx, n, "nobody wants it", now); err != nil {
		t.Fatal(err)
	}
	if err := j.Drop(ctx, n, "twice", now); err != nil { // it was dropped meanwhile
		t.Fatal(err)
	}
	if n, err = j.Waiting(ctx, "ops"); err != nil || string(n.Body) != "2" {
		t.Errorf("%+v, %v", n, err)
	}
	if err := j.Sent(ctx, n.ID); err != nil {
		t.Fatal(err)
	}
	if n, err = j.Waiting(ctx, "ops"); err != nil || n != nil {
		t.Errorf("%+v, %v", n, err)
	}
	if q, err := j.Queue(ctx, "ops"); err != nil || q != (Queue{0, 1, now, "nobody wants it"}) {
		t.Errorf("%+v, %v", q, err)
	}
	if q, err := j.Queue(ctx, "chat"); err != nil || q != (Queue{Waiting: 1}) {
		t.Errorf("%+v, %v", q, err)
	}
	// The queue of one webhook is bounded, and takes nothing from another's.
	if err := j.Tell(ctx, nil, notices("ops", 1, MostNotices+7), now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if q, err := j.Queue(ctx, "ops"); err != nil || q.Waiting != MostNotices || q.Dropped != 8 || !q.DroppedAt.Equal(now.Add(time.Hour)) {
		t.Errorf("%+v, %v", q, err)
	}
	if n, err = j.Waiting(ctx, "ops"); err != nil || string(n.Body) != "8" {
		t.Errorf("the oldest are not those that were dropped: %+v, %v", n, err)
	}
	if err := j.TellOnly(ctx, []string{"chat"}); err != nil {
		t.Fatal(err)
	}
	for webhook, want := range map[string]Queue{"ops": {}, "chat": {Waiting: 1}} {
		if q, err := j.Queue(ctx, webhook); err != nil || q != want {
			t.Errorf("%s: %+v, %v", webhook, q, err)
		}
	}
}

func TestHoldNotices(t *testing.T) {
	dir := t.TempDir()
	release, err := HoldNotices(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := HoldNotices(dir); !errors.Is(err, ErrNotifying) {
		t.Errorf("two hold them: %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if release, err = HoldNotices(dir); err != nil {
		t.Fatal(err)
	}
	_ = release()
}
