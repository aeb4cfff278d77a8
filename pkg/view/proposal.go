package view

import "time"

// Proposal is a plan that waits for an approval, or what has come of one.
type Proposal struct {
	ID     int64     `json:"id"`
	State  string    `json:"state"` // waiting, approved, begun or expired
	Digest string    `json:"digest"`
	By     string    `json:"by"`
	At     time.Time `json:"at"`
	Until  time.Time `json:"until"`
	// Approved is who has approved it, ApprovedUntil by when it has to begin.
	Approved      string    `json:"approved_by,omitempty"`
	ApprovedUntil time.Time `json:"approved_until,omitzero"`
	// BeginsAt is when its maintenance window opens; zero = one is open, or it waits for none.
	BeginsAt time.Time `json:"begins_at,omitzero"`
	// Run is the run that has begun it, Refused why it was not begun although approved.
	Run     string `json:"run,omitempty"`
	Refused string `json:"refused,omitempty"`
}
