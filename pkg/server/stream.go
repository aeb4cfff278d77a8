package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
)

const (
	// mostStreams bounds what is followed at once, over all who look.
	mostStreams = 1000
	// lookEvery is how often a stream looks for news, keepAlive how often it says
	// something where there are none, so that no proxy takes it for dead.
	lookEvery = time.Second
	keepAlive = 15 * time.Second
	// messageTime is for how long a reader may take no byte of a message.
	messageTime = 20 * time.Second
)

// stream is one answer of server-sent events.
type stream struct {
	w    http.ResponseWriter
	ctl  *http.ResponseController
	said time.Time
	now  func() time.Time
}

// follow answers with server-sent events: send is called again and again to send
// what is new, until it returns false or the reader is gone.
func (s *Server) follow(w http.ResponseWriter, r *http.Request, send func(*stream) (more bool, err error)) {
	if s.streams.Add(1) > mostStreams {
		s.streams.Add(-1)
		w.Header().Set("Retry-After", "10")
		s.fail(w, r, http.StatusServiceUnavailable, errors.New("too many follow runs already\ntry again later"))
		return
	}
	defer s.streams.Add(-1)
	st := &stream{w: w, ctl: http.NewResponseController(w), now: s.now, said: s.now()}
	// The limits of a single answer do not hold for one that goes on.
	_ = st.ctl.SetReadDeadline(time.Time{})
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would hold it back
	if st.write([]byte(":\n\n")) != nil {     // the headers, before there is news
		return
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		more, err := send(st)
		if err != nil {
			s.log.Debug("a stream ends", "path", r.URL.Path, "error", err)
			return
		}
		if !more {
			return
		}
		if s.now().Sub(st.said) >= keepAlive {
			if st.write([]byte(":\n\n")) != nil {
				return
			}
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		case <-s.stopping:
			return
		}
	}
}

// write sends whole messages now.
func (st *stream) write(b []byte) error {
	_ = st.ctl.SetWriteDeadline(time.Now().Add(messageTime)) // of the connection: by the system's clock
	if _, err := st.w.Write(b); err != nil {
		return err
	}
	st.said = st.now()
	return st.ctl.Flush()
}

// message is one server-sent event. data holds no line break.
func message(id int64, name string, data []byte) []byte {
	var b bytes.Buffer
	if id > 0 {
		b.WriteString("id: " + strconv.FormatInt(id, 10) + "\n")
	}
	fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", name, data)
	return b.Bytes()
}

// held is told to who follows a run: that all its events so far were sent, and whether
// anybody goes on with it.
type held struct {
	Held bool `json:"held"` // a process holds the run lock for it
	// Quiet is how long ago the last event came about, in seconds: the reader's clock may
	// be another.
	Quiet float64 `json:"quiet_seconds"`
}

// streamEvents sends the events of a run that come after the one numbered after,
// those that are there and those that come. It ends with the run: what is done
// has no more events. An id is the number in the journal, so who comes back with
// the last one misses none. A message run.held, which is no event and has no id, follows
// the events that are there, and comes again when a process has taken the run up or left it.
func (s *Server) streamEvents(w http.ResponseWriter, r *http.Request, after int64) {
	f, err := s.store.follow(r.Context(), r.PathValue("run"))
	if err != nil {
		s.failed(w, r, err)
		return
	}
	if is := f.now(); is.view.Status == rollout.Done && after >= is.seq {
		w.WriteHeader(http.StatusNoContent) // which tells a browser not to come back
		return
	}
	var told *held
	s.follow(w, r, func(st *stream) (bool, error) {
		if err := f.refresh(r.Context()); err != nil {
			return false, err
		}
		is := f.now()
		for after < is.seq {
			events, err := f.journal.After(r.Context(), f.id, after, 256)
			if err != nil {
				return false, err
			}
			var b bytes.Buffer
			for _, e := range events {
				data, err := json.Marshal(eventOf(e))
				if err != nil {
					return false, err
				}
				b.Write(message(e.Seq, string(e.Type), data))
				after = e.Seq
			}
			if err := st.write(b.Bytes()); err != nil {
				return false, err
			}
		}
		if told == nil || told.Held != is.held {
			told = &held{is.held, is.quiet.Seconds()}
			data, err := json.Marshal(told)
			if err != nil {
				return false, err
			}
			if err := st.write(message(0, "run.held", data)); err != nil {
				return false, err
			}
		}
		return is.view.Status != rollout.Done, nil
	})
}
