package journal

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const day = 24 * time.Hour

// propose is a plan that anna has proposed at start, for a week.
func propose(t *testing.T, j *Journal) Proposal {
	t.Helper()
	plan := newPlan(t, 2, 1)
	if err := plan.Seal(); err != nil {
		t.Fatal(err)
	}
	p, err := j.Propose(t.Context(), plan, "anna", start, start.Add(7*day))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestProposal(t *testing.T) {
	j := mustOpen(t, t.TempDir())
	if all, err := j.Proposals(t.Context()); len(all) > 0 || err != nil {
		t.Fatalf("%v, %v", all, err)
	}
	p := propose(t, j)
	if again := propose(t, j); again.ID != p.ID {
		t.Errorf("proposed twice, the plan waits as %d and as %d", p.ID, again.ID)
	}
	got, plan, err := j.Proposal(t.Context(), p.ID)
	if err != nil || plan.Digest != p.Digest || got.By != "anna" || !got.At.Equal(start) || !got.Open(start) || got.Ready(start) || got.Open(start.Add(7*day)) {
		t.Fatalf("%+v, %v", got, err)
	}
	now := start.Add(time.Hour)
	if _, err := j.Approve(t.Context(), p.ID, p.Digest, "bert", now, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	got, _, err = j.Proposal(t.Context(), p.ID)
	if err != nil || !got.Ready(now) || got.Open(now) || got.Approved != "bert" || got.Ready(now.Add(time.Hour)) || !got.Open(now.Add(time.Hour)) {
		t.Fatalf("approved: %+v, %v", got, err)
	}
	// It could not begin, and may be approved again.
	if err := j.Refuse(t.Context(), p.ID, "n1 was rebooted"); err != nil {
		t.Fatal(err)
	}
	if got, _, err = j.Proposal(t.Context(), p.ID); err != nil || got.Ready(now) || !got.Open(now) || got.Refused != "n1 was rebooted" || got.Approved != "" {
		t.Fatalf("refused: %+v, %v", got, err)
	}
	if _, _, err := j.Proposal(t.Context(), 99); !errors.Is(err, ErrNoProposal) {
		t.Errorf("%v", err)
	}
}

func TestApproveInVain(t *testing.T) {
	now := start.Add(time.Hour)
	for name, c := range map[string]struct {
		prepare func(*testing.T, *Journal, Proposal)
		id      int64
		digest  string
		by      string
		at      time.Time
		want    error
	}{
		"no such":        {id: 7, want: ErrNoProposal},
		"her own":        {by: "anna", want: ErrOwnProposal},
		"another digest": {digest: "abc", want: ErrOtherDigest},
		"too old":        {at: start.Add(8 * day), want: ErrNotOpen},
		"approved already": {want: ErrNotOpen, prepare: func(t *testing.T, j *Journal, p Proposal) {
			if _, err := j.Approve(t.Context(), p.ID, p.Digest, "carl", now, now.Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
		}},
		"begun": {want: ErrNotOpen, at: now.Add(2 * time.Hour), prepare: func(t *testing.T, j *Journal, p Proposal) {
			if _, err := j.Approve(t.Context(), p.ID, p.Digest, "carl", now, now.Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
			if _, err := j.BeginApproved(t.Context(), askedRun, now, []byte("{}"), p.ID, p.Digest); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			j := mustOpen(t, t.TempDir())
			p := propose(t, j)
			if c.prepare != nil {
				c.prepare(t, j, p)
			}
			before, _, err := j.Proposal(t.Context(), p.ID)
			if err != nil {
				t.Fatal(err)
			}
			id, digest, by, at := p.ID, p.Digest, "bert", now
			if c.id != 0 {
				id = c.id
			}
			if c.digest != "" {
				digest = c.digest
			}
			if c.by != "" {
				by = c.by
			}
			if !c.at.IsZero() {
				at = c.at
			}
			if _, err := j.Approve(t.Context(), id, digest, by, at, at.Add(time.Hour)); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			after, _, err := j.Proposal(t.Context(), p.ID)
			if d := cmp.Diff(before, after); d != "" || err != nil {
				t.Errorf("%v (-before +after):\n%s", err, d)
			}
		})
	}
}

// Of many who approve at once one does, and of many who begin at once one does.
func TestApprovedAndBegunOnce(t *testing.T) {
	dir := t.TempDir()
	p := propose(t, mustOpen(t, dir))
	now := start.Add(time.Hour)
	at := func(do func(n int, j *Journal) error, want error) (done int) {
		var all sync.WaitGroup
		errs := make([]error, 8)
		for n := range errs {
			all.Go(func() {
				j, err := Open(dir)
				if err != nil {
					errs[n] = err
					return
				}
				defer j.Close()
				errs[n] = do(n, j)
			})
		}
		all.Wait()
		for _, err := range errs {
			if err == nil {
				done++
			} else if !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
		}
		return done
	}
	n := at(func(n int, j *Journal) error {
		_, err := j.Approve(t.Context(), p.ID, p.Digest, string(rune('b'+n)), now, now.Add(time.Hour))
		return err
	}, ErrNotOpen)
	if n != 1 {
		t.Errorf("%d have approved it", n)
	}
	n = at(func(n int, j *Journal) error {
		_, err := j.BeginApproved(t.Context(), askedRun+string(rune('a'+n)), now, []byte("{}"), p.ID, p.Digest)
		return err
	}, ErrNotApproved)
	j := mustOpen(t, dir)
	heads, err := j.Heads(t.Context())
	if n != 1 || len(heads) != 1 || err != nil {
		t.Errorf("%d have begun it: %v, %v", n, heads, err)
	}
	got, _, err := j.Proposal(t.Context(), p.ID)
	if err != nil || got.Run != heads[0].ID {
		t.Errorf("%+v, %v", got, err)
	}
	// What has begun is not taken back.
	if err := j.Refuse(t.Context(), p.ID, "too late"); err != nil {
		t.Fatal(err)
	}
	if after, _, err := j.Proposal(t.Context(), p.ID); err != nil || !cmp.Equal(got, after) {
		t.Errorf("%+v, %v", after, err)
	}
}

// What is not approved, is no more, or is another plan begins no run.
func TestNotBegun(t *testing.T) {
	j := mustOpen(t, t.TempDir())
	p := propose(t, j)
	now := start.Add(time.Hour)
	begins := func(at time.Time, digest string) {
		t.Helper()
		if _, err := j.BeginApproved(t.Context(), askedRun, at, []byte("{}"), p.ID, digest); !errors.Is(err, ErrNotApproved) {
			t.Errorf("%v", err)
		}
		if heads, err := j.Heads(t.Context()); len(heads) > 0 || err != nil {
			t.Errorf("%v, %v", heads, err)
		}
	}
	begins(now, p.Digest)
	if _, err := j.Approve(t.Context(), p.ID, p.Digest, "bert", now, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	begins(now.Add(time.Hour), p.Digest)
	begins(now, "abc")
}
