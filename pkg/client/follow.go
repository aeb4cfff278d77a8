package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
)

const (
	// quietTime is how long a stream may say nothing: a server does every 15 seconds.
	quietTime = 45 * time.Second
	// againTime is how long after a connection was lost the next one is tried, patience
	// how long it may be away before that is told: a server that is started anew is soon
	// back.
	againTime = time.Second
	patience  = 5 * time.Second
	// mostMessage bounds a line of a stream, in bytes: an event holds at most the output
	// of one command.
	mostMessage = 16 << 20
)

// following are the times of a stream.
type following struct{ quiet, again, patience time.Duration }

// News is what comes of a run that is followed: an event, or, without one, that all events
// so far have come.
type News struct {
	Event *rollout.Event
	// What follows comes without an event. Held says whether a process is at the run, Quiet
	// how long ago its last event came about, Usual how long steps took in earlier runs, if
	// that is known.
	Held  bool
	Quiet time.Duration
	Usual rollout.Usual
}

// Follow are the events of a run from its first one on, each once and in order, those that
// there are and those that come, until the run is done. A connection that is lost is made
// anew, and goes on behind the last event; lost is told why where that takes a while, and
// nil once it goes on. The first connection is tried once.
func (c *Client) Follow(ctx context.Context, run string, lost func(error)) iter.Seq2[News, error] {
	return func(yield func(News, error) bool) {
		f := feed{Client: c, run: run, yield: yield, lost: lost}
		for {
			over, err := f.listen(ctx)
			switch {
			case over:
				return
			case ctx.Err() != nil:
				yield(News{}, context.Cause(ctx))
				return
			case !f.begun || !passes(err):
				yield(News{}, err)
				return
			}
			f.away(err)
			select {
			case <-time.After(c.follow.again):
			case <-ctx.Done():
			}
		}
	}
}

// passes reports whether what went wrong may be over when the server is asked again.
func passes(err error) bool {
	var gone lostError
	var refused *Error
	return errors.As(err, &gone) || errors.As(err, &refused) && (refused.Status >= http.StatusInternalServerError || refused.Status == http.StatusTooManyRequests)
}

// feed is a run that is followed, over one connection after the other.
type feed struct {
	*Client
	run   string
	yield func(News, error) bool
	lost  func(error)
	seq   int64     // of the last event
	begun bool      // there was a connection
	since time.Time // the connection is away; zero: it is not
	said  bool      // that it is
}

func (f *feed) away(err error) {
	if f.since.IsZero() {
		f.since = time.Now()
	}
	if !f.said && time.Since(f.since) >= f.follow.patience {
		f.said = true
		f.lost(err)
	}
}

// tell hands on what has come, and reports whether more is wanted.
func (f *feed) tell(n News) bool {
	if f.said {
		f.lost(nil)
	}
	f.since, f.said = time.Time{}, false
	return f.yield(n, nil)
}

// listen takes what one connection brings; over says that no more is to come, or wanted.
func (f *feed) listen(outer context.Context) (over bool, err error) {
	ctx, stop := context.WithCancelCause(outer)
	defer stop(nil)
	silence := time.AfterFunc(f.follow.quiet, func() { stop(fmt.Errorf("it has said nothing for %v", f.follow.quiet)) })
	defer silence.Stop()
	broken := func(err error) error {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return f.unanswered(err)
	}
	r, err := f.request(ctx, http.MethodGet, nil, nil, "runs", f.run, "events")
	if err != nil {
		return false, err
	}
	r.Header.Set("Accept", "text/event-stream")
	if f.seq > 0 {
		r.Header.Set("Last-Event-ID", strconv.FormatInt(f.seq, 10))
	}
	res, err := f.http.Do(r)
	if err != nil {
		return false, broken(err)
	}
	defer res.Body.Close()
	if err := f.refused(res); err != nil {
		return false, err
	}
	switch kind := res.Header.Get("Content-Type"); {
	case res.StatusCode == http.StatusNoContent: // it is done
		f.tell(News{})
		return true, nil
	case !strings.HasPrefix(kind, "text/event-stream"):
		return false, f.strange(fmt.Sprintf("with %q in place of a stream", kind))
	}
	f.begun = true
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, mostMessage)
	var m message
	for lines.Scan() {
		silence.Reset(f.follow.quiet)
		// A message counts once its empty line is there: what was cut off comes again.
		if lines.Text() != "" {
			if !m.add(lines.Text()) {
				return false, f.strange("with a message of several lines")
			}
			continue
		}
		if over, err = f.take(outer, m); over || err != nil {
			return over, err
		}
		m = message{}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return false, f.strange(fmt.Sprintf("with more than %d MB in a line", mostMessage>>20))
	case err != nil:
		return false, broken(err)
	}
	return false, broken(errors.New("the server has ended the connection"))
}

// message is a server-sent event, as far as this API has one.
type message struct{ name, data string }

// add takes a line; false: there is none of the kind in this API.
func (m *message) add(line string) bool {
	field, text, _ := strings.Cut(line, ":")
	text = strings.TrimPrefix(text, " ")
	switch field {
	case "event":
		m.name = text
	case "data":
		if m.data != "" {
			return false
		}
		m.data = text
	}
	return true
}

// take takes a whole message.
func (f *feed) take(ctx context.Context, m message) (over bool, err error) {
	if m.data == "" { // a sign of life
		return false, nil
	}
	if m.name == "run.held" {
		var is struct {
			Held  bool
			Quiet float64 `json:"quiet_seconds"`
		}
		if err := json.Unmarshal([]byte(m.data), &is); err != nil {
			return false, f.strange("with JSON that is not that of the API: " + err.Error())
		}
		return !f.tell(News{Held: is.Held, Quiet: time.Duration(is.Quiet * float64(time.Second))}), nil
	}
	var e eventOf
	if err := json.Unmarshal([]byte(m.data), &e); err != nil {
		return false, f.strange("with JSON that is not that of the API: " + err.Error())
	}
	if err := f.whole(ctx, f.run, f.seq, &e); err != nil {
		return false, err
	}
	f.seq = e.Seq
	if !f.tell(News{Event: &e.Event}) {
		return true, nil
	}
	if e.Type == rollout.RunDone {
		f.tell(News{})
		return true, nil
	}
	return false, nil
}
