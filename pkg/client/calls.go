package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/view"
)

// ErrNoRun says that the server knows no run at all.
var ErrNoRun = errors.New("the journal of the server holds no run")

// Runs are the runs that the server knows, older than the one named before ("" = from
// the newest on), the newest first; more says whether older ones follow. limit is at
// most 200.
func (c *Client) Runs(ctx context.Context, before string, limit int) (rows []view.RunRow, more bool, err error) {
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	if before != "" {
		q.Set("before", before)
	}
	var out struct {
		Runs []view.RunRow
		More bool
	}
	err = c.call(ctx, http.MethodGet, q, nil, mostAnswer, &out, "runs")
	return out.Runs, out.More, err
}

// Last is the newest run.
func (c *Client) Last(ctx context.Context) (string, error) {
	rows, _, err := c.Runs(ctx, "", 1)
	if err == nil && len(rows) == 0 {
		err = ErrNoRun
	}
	if err != nil {
		return "", err
	}
	return rows[0].ID, nil
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

// Proposal is a plan that waits for an approval, or what has come of one.
type Proposal struct {
	ID     int64     `json:"id"`
	State  string    `json:"state"` // waiting, approved, begun or expired
	Digest string    `json:"digest"`
	By     string    `json:"by"`
	At     time.Time `json:"at"`
	Until  time.Time `json:"until"`
	// Approved is who has approved it, ApprovedUntil by when it has to begin.
	Approved      string    `json:"approved_by"`
	ApprovedUntil time.Time `json:"approved_until"`
	// Run is the run that has begun it, Refused why it was not begun although approved.
	Run     string `json:"run"`
	Refused string `json:"refused"`
}

// Propose proposes a plan, given as its file holds it. One that waits already is not
// proposed again.
func (c *Client) Propose(ctx context.Context, plan []byte) (Proposal, error) {
	var p Proposal
	err := c.call(ctx, http.MethodPost, nil, plan, mostAnswer, &p, "proposals")
	return p, err
}

// Proposal is the proposal of that number with its plan. What the plan holds gives the
// digest that it has, which is that of the proposal.
func (c *Client) Proposal(ctx context.Context, id int64) (Proposal, *rollout.Plan, error) {
	var out struct {
		Proposal
		Plan json.RawMessage
	}
	number := strconv.FormatInt(id, 10)
	if err := c.call(ctx, http.MethodGet, nil, nil, mostPlan, &out, "proposals", number); err != nil {
		return Proposal{}, nil, err
	}
	plan, err := rollout.ReadPlan(out.Plan)
	switch {
	case err != nil:
		return Proposal{}, nil, fmt.Errorf("cannot read the plan of proposal %d: %w", id, err)
	case out.ID != id || out.Digest != plan.Digest:
		return Proposal{}, nil, fmt.Errorf("%s answers with another plan than that of proposal %d", c.base, id)
	}
	return out.Proposal, &plan, nil
}

// Approve approves a proposal as the plan of that digest.
func (c *Client) Approve(ctx context.Context, id int64, digest string) (Proposal, error) {
	body, err := json.Marshal(map[string]string{"digest": digest})
	if err != nil {
		return Proposal{}, err
	}
	var p Proposal
	err = c.call(ctx, http.MethodPost, nil, body, mostAnswer, &p, "proposals", strconv.FormatInt(id, 10), "approve")
	if err == nil && (p.ID != id || p.Digest != digest) {
		err = fmt.Errorf("%s answers that it has approved another plan", c.base)
	}
	return p, err
}
