package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// requested is what came of a request so far.
type requested struct {
	Request rollout.Request `json:"request"`
	Answer  journal.Answer  `json:"answer"`
}

// errMissed is for a request that nothing has come of.
var errMissed = errors.New("the run ended before it looked")

// request asks something of a run in the name of who asks here.
func (s *Server) request(r *http.Request, verb rollout.Verb, reason string) (requested, error) {
	ctx, run := r.Context(), r.PathValue("run")
	if !journal.Exists(s.store.dir) {
		return requested{}, journal.ErrNoRun
	}
	j, err := journal.Open(s.store.dir)
	if err != nil {
		return requested{}, err
	}
	defer j.Close()
	q, err := j.Ask(ctx, run, rollout.Request{Verb: verb, By: rollout.Person{User: who(r).Name}, At: s.now(), Reason: reason})
	if err != nil {
		return requested{}, err
	}
	s.log.Info("a run is asked to stop", "run", run, "verb", verb, "who", q.By.User)
	ctx, stop := context.WithTimeout(ctx, s.patience)
	defer stop()
	answer, err := j.Await(ctx, q)
	if err == nil && answer == journal.Missed {
		err = fmt.Errorf("run %s was not %s: %w", run, verb.Past(), errMissed)
	}
	return requested{q.Request, answer}, err
}

// notRequested answers with why a run cannot be asked.
func (s *Server) notRequested(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, journal.ErrNotUnderWay), errors.Is(err, errMissed):
		s.fail(w, r, http.StatusConflict, err)
	case errors.Is(err, journal.ErrReason):
		s.fail(w, r, http.StatusBadRequest, err)
	default:
		s.failed(w, r, err)
	}
}

func (s *Server) apiRequest(verb rollout.Verb) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Reason string `json:"reason"`
		}
		dec := json.NewDecoder(r.Body)
		dec.DisallowUnknownFields()
		if err := dec.Decode(&body); err != nil && !errors.Is(err, io.EOF) { // no reason is as good as none given
			s.fail(w, r, http.StatusBadRequest, fmt.Errorf("the body is not as it should be: %w\nsend {\"reason\": \"…\"}, or nothing", err))
			return
		}
		out, err := s.request(r, verb, body.Reason)
		switch {
		case err != nil:
			s.notRequested(w, r, err)
		case out.Answer == journal.Pending:
			writeJSON(w, http.StatusAccepted, out)
		default:
			writeJSON(w, http.StatusOK, out)
		}
	}
}

// pageRequest is what the buttons of a run's page do.
func (s *Server) pageRequest(verb rollout.Verb) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			s.fail(w, r, http.StatusBadRequest, err)
			return
		}
		if _, err := s.request(r, verb, r.PostForm.Get("reason")); err != nil {
			s.notRequested(w, r, err)
			return
		}
		http.Redirect(w, r, "/runs/"+url.PathEscape(r.PathValue("run")), http.StatusSeeOther)
	}
}
