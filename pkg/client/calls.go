package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/view"
)

// ErrNoRun says that the server knows no run at all.
var ErrNoRun = errors.New("the journal of the server holds no run")

const (
	// pageOfRuns is how many runs are asked for at once, mostRuns how many are taken.
	pageOfRuns = 200
	mostRuns   = 100_000
	// pageOfEvents is how many events are asked for at once: each may hold the output of
	// a command.
	pageOfEvents = 500
)

// Rows are all runs that the server knows, the newest first.
func (c *Client) Rows(ctx context.Context) ([]view.RunRow, error) {
	rows, before := []view.RunRow{}, ""
	for len(rows) < mostRuns {
		page, more, err := c.page(ctx, before, pageOfRuns)
		if err != nil {
			return nil, err
		}
		rows = append(rows, page...)
		if !more || len(page) == 0 {
			return rows, nil
		}
		before = page[len(page)-1].ID
	}
	return nil, fmt.Errorf("%s tells of more than %d runs", c.base, mostRuns)
}

// page are runs older than the one named before ("" = from the newest on), the newest
// first; more says whether older ones follow.
func (c *Client) page(ctx context.Context, before string, limit int) (rows []view.RunRow, more bool, err error) {
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	if before != "" {
		q.Set("before", before)
	}
	var out struct {
		Runs []view.RunRow
		More bool
	}
	if err := c.call(ctx, http.MethodGet, q, nil, mostAnswer, &out, "runs"); err != nil {
		return nil, false, err
	}
	for _, r := range out.Runs {
		if !isID(r.ID) {
			return nil, false, c.strange(fmt.Sprintf("with a run named %q", r.ID))
		}
	}
	return out.Runs, out.More, nil
}

// isID reports whether a run may be called so. It is typed again as it stands.
func isID(id string) bool {
	return id != "" && len(id) <= 100 && !strings.ContainsFunc(id, func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// Last is the newest run.
func (c *Client) Last(ctx context.Context) (string, error) {
	rows, _, err := c.page(ctx, "", 1)
	if err == nil && len(rows) == 0 {
		err = ErrNoRun
	}
	if err != nil {
		return "", err
	}
	return rows[0].ID, nil
}

// plan is the plan of a run, which has to have that digest.
func (c *Client) plan(ctx context.Context, run, digest string) (*rollout.Plan, error) {
	var raw json.RawMessage
	if err := c.call(ctx, http.MethodGet, nil, nil, mostPlan, &raw, "runs", run, "plan"); err != nil {
		return nil, err
	}
	p, err := rollout.ReadPlan(raw)
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot read the plan of run %s: %w", run, err)
	case p.Digest != digest:
		return nil, fmt.Errorf("%s answers with another plan than that of run %s", c.base, run)
	}
	return &p, nil
}

// after are the next events of a run after that number, as the journal has them.
func (c *Client) after(ctx context.Context, run string, seq int64) ([]rollout.Event, error) {
	q := url.Values{"after": {strconv.FormatInt(seq, 10)}, "limit": {strconv.Itoa(pageOfEvents)}}
	var page struct{ Events []eventOf }
	if err := c.call(ctx, http.MethodGet, q, nil, mostPlan, &page, "runs", run, "events"); err != nil {
		return nil, err
	}
	var out []rollout.Event
	for _, e := range page.Events {
		if err := c.whole(ctx, run, seq, &e); err != nil {
			return nil, err
		}
		seq, out = e.Seq, append(out, e.Event)
	}
	return out, nil
}

// eventOf is an event as the API tells it.
type eventOf struct {
	rollout.Event
	Plan string `json:"plan"` // its digest
}

// whole makes an event what the journal has, which has to be the one after that number.
func (c *Client) whole(ctx context.Context, run string, seq int64, e *eventOf) (err error) {
	if e.Seq != seq+1 {
		return fmt.Errorf("%s answers with event %d of run %s after event %d", c.base, e.Seq, run, seq)
	}
	if e.Plan != "" {
		e.Event.Plan, err = c.plan(ctx, run, e.Plan)
	}
	return err
}

// Events are the events of a run that there are, in order.
func (c *Client) Events(ctx context.Context, run string) iter.Seq2[rollout.Event, error] {
	return func(yield func(rollout.Event, error) bool) {
		for seq := int64(0); ; {
			events, err := c.after(ctx, run, seq)
			if err != nil {
				yield(rollout.Event{}, err)
				return
			}
			for _, e := range events {
				if seq = e.Seq; !yield(e, nil) {
					return
				}
			}
			if len(events) < pageOfEvents {
				return
			}
		}
	}
}

// Request asks the process that is at a run to stop, and waits some seconds for it to
// look; heard tells whether it has. What is asked for stands either way.
func (c *Client) Request(ctx context.Context, run string, verb rollout.Verb, reason string) (heard bool, err error) {
	body, err := json.Marshal(map[string]string{"reason": reason})
	if err != nil {
		return false, err
	}
	var out struct{ Answer string }
	if err := c.call(ctx, http.MethodPost, nil, body, mostAnswer, &out, "runs", run, string(verb)); err != nil {
		return false, err
	}
	if out.Answer != "heard" && out.Answer != "pending" {
		return false, fmt.Errorf("%s does not say what has come of it", c.base)
	}
	return out.Answer == "heard", nil
}

// Resume has the server go on with a run, and waits some seconds until it does; goes tells
// whether that was seen.
func (c *Client) Resume(ctx context.Context, run string) (goes bool, err error) {
	var out struct{ Answer string }
	if err := c.call(ctx, http.MethodPost, nil, nil, mostAnswer, &out, "runs", run, "resume"); err != nil {
		return false, err
	}
	if out.Answer != "resumed" && out.Answer != "pending" {
		return false, fmt.Errorf("%s does not say what has come of it", c.base)
	}
	return out.Answer == "resumed", nil
}

// Propose proposes a plan, given as its file holds it. One that waits already is not
// proposed again.
func (c *Client) Propose(ctx context.Context, plan []byte) (view.Proposal, error) {
	var p view.Proposal
	err := c.call(ctx, http.MethodPost, nil, plan, mostAnswer, &p, "proposals")
	return p, err
}

// Proposal is the proposal of that number with its plan. What the plan holds gives the
// digest that it has, which is that of the proposal.
func (c *Client) Proposal(ctx context.Context, id int64) (view.Proposal, *rollout.Plan, error) {
	var out struct {
		view.Proposal
		Plan json.RawMessage
	}
	number := strconv.FormatInt(id, 10)
	if err := c.call(ctx, http.MethodGet, nil, nil, mostPlan, &out, "proposals", number); err != nil {
		return view.Proposal{}, nil, err
	}
	plan, err := rollout.ReadPlan(out.Plan)
	switch {
	case err != nil:
		return view.Proposal{}, nil, fmt.Errorf("cannot read the plan of proposal %d: %w", id, err)
	case out.ID != id || out.Digest != plan.Digest:
		return view.Proposal{}, nil, fmt.Errorf("%s answers with another plan than that of proposal %d", c.base, id)
	}
	return out.Proposal, &plan, nil
}

// Approve approves a proposal as the plan of that digest.
func (c *Client) Approve(ctx context.Context, id int64, digest string) (view.Proposal, error) {
	body, err := json.Marshal(map[string]string{"digest": digest})
	if err != nil {
		return view.Proposal{}, err
	}
	var p view.Proposal
	err = c.call(ctx, http.MethodPost, nil, body, mostAnswer, &p, "proposals", strconv.FormatInt(id, 10), "approve")
	if err == nil && (p.ID != id || p.Digest != digest) {
		err = fmt.Errorf("%s answers that it has approved another plan", c.base)
	}
	return p, err
}
