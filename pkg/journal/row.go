package journal

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// row is an event as the table holds it, but for the run.
type row struct {
	seq        int64
	at         string
	clock      int64
	kind       string
	play, task sql.NullInt64
	host       sql.NullString
	attempt    int
	body       []byte
}

// body are the fields of an event that have no column.
type body struct {
	// Plan is the sum of the plan, which has a table of its own.
	Plan      string             `json:"plan,omitempty"`
	Forks     int                `json:"forks,omitempty"`
	By        *rollout.Person    `json:"by,omitempty"`
	Past      bool               `json:"past,omitempty"`
	Outcome   *rollout.Outcome   `json:"outcome,omitempty"`
	Operation *rollout.Operation `json:"operation,omitempty"`
	Text      string             `json:"text,omitempty"`
	Halt      *rollout.Halt      `json:"halt,omitempty"`
	Request   *rollout.Request   `json:"request,omitempty"`
}

// newRow is the row of an event, whose plan is stored under sum.
func newRow(e rollout.Event, sum string) (row, error) {
	at, err := e.At.MarshalText()
	if err != nil {
		return row{}, err
	}
	b, err := json.Marshal(body{sum, e.Forks, e.By, e.Past, e.Outcome, e.Operation, e.Text, e.Halt, e.Request})
	if err != nil {
		return row{}, err
	}
	r := row{seq: e.Seq, at: string(at), clock: int64(e.Clock), kind: string(e.Type), attempt: e.Attempt, body: b}
	if e.Step != nil {
		r.play = sql.NullInt64{Int64: int64(e.Step.Play), Valid: true}
		r.task = sql.NullInt64{Int64: int64(e.Step.Task), Valid: true}
		r.host = sql.NullString{String: e.Step.Host, Valid: true}
	}
	return r, nil
}

// event is the event of a row, and the sum of its plan.
func (r row) event() (e rollout.Event, sum string, err error) {
	var b body
	if err := json.Unmarshal(r.body, &b); err != nil {
		return e, "", err
	}
	e = rollout.Event{
		Seq: r.seq, Clock: time.Duration(r.clock), Type: rollout.EventType(r.kind), Attempt: r.attempt,
		Forks: b.Forks, By: b.By, Past: b.Past, Outcome: b.Outcome, Operation: b.Operation, Text: b.Text, Halt: b.Halt, Request: b.Request,
	}
	if err := e.At.UnmarshalText([]byte(r.at)); err != nil {
		return e, "", err
	}
	if r.host.Valid {
		e.Step = &rollout.StepID{Play: int(r.play.Int64), Task: int(r.task.Int64), Host: r.host.String}
	}
	// Who reads events takes it that these are there.
	switch {
	case e.Type == rollout.RunStarted && b.Plan == "",
		(e.Type == rollout.StepEnded || e.Type == rollout.StepIntended) && e.Outcome == nil,
		e.Type == rollout.StepOperation && e.Operation == nil,
		e.Type == rollout.RunHalted && e.Halt == nil,
		e.Type == rollout.RunRequested && e.Request == nil:
		return e, "", fmt.Errorf("%s without what it tells", e.Type)
	}
	return e, b.Plan, nil
}

// pack is the compressed JSON of v, and its sum.
func pack(v any) (packed []byte, sum string, err error) {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		return nil, "", err
	}
	if err := errors.Join(json.NewEncoder(z).Encode(v), z.Close()); err != nil {
		return nil, "", err
	}
	hash := sha256.Sum256(out.Bytes())
	return out.Bytes(), hex.EncodeToString(hash[:]), nil
}

// unpack reads what pack wrote.
func unpack(packed []byte, v any) error {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return err
	}
	raw, err := io.ReadAll(z) // to the end, where the checksum is
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, v)
}
