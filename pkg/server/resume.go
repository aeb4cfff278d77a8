package server

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/view"
)

// resumed is what came of a resume so far.
type resumed struct {
	Answer string `json:"answer"` // resumed: a process is at the run; pending: not yet
}

// errNotResumed is for a run that nobody goes on with.
var errNotResumed = errors.New("the run does not go on")

// lookAgain is how often is looked whether a run goes on.
const lookAgain = 100 * time.Millisecond

// resume has a fleetd of its own go on with a run, and waits until it does. What it takes
// to go on that fleetd knows, and says why not.
func (s *Server) resume(r *http.Request) (resumed, error) {
	ctx, run := r.Context(), r.PathValue("run")
	f, err := s.store.follow(ctx, run)
	if err != nil {
		return resumed{}, err
	}
	before := f.now()
	switch {
	case before.held:
		return resumed{}, fmt.Errorf("%w: a process is at it", errNotResumed)
	case before.view.Status == rollout.Done:
		return resumed{}, fmt.Errorf("%w: it is done", errNotResumed)
	case before.view.Status == rollout.Halted:
		return resumed{}, &rollout.Problem{Message: errNotResumed.Error() + ": it was halted", Hint: "fleetd runs show tells why, and what can be typed on the machine of this server"}
	}
	w := s.windowFor(f.plan().Source)
	if !w.open(s.now()) {
		return resumed{}, &rollout.Problem{
			Message: errNotResumed.Error() + ": the maintenance window of its fleet opens " + view.Stamp(w.opens),
			Hint:    "fleetd resume on the machine of this server goes on at any time",
		}
	}
	ended, err := s.start(Job{Run: run, Until: w.until})
	if err != nil {
		return resumed{}, err
	}
	s.log.Info("a run is to go on", "run", run, "who", who(r).Name)
	until := time.After(s.patience)
	for over := false; ; {
		if err := f.refresh(ctx); err != nil {
			return resumed{}, err
		}
		// It may have come to its end meanwhile.
		if is := f.now(); is.seq > before.seq {
			return resumed{"resumed"}, nil
		}
		if over {
			if err == nil {
				err = errors.New("its fleetd has ended")
			}
			return resumed{}, fmt.Errorf("%w: %w", errNotResumed, err)
		}
		select {
		case err = <-ended:
			over = true
			time.Sleep(fresh) // what is known of the run may be as old as that
		case <-time.After(lookAgain):
		case <-until:
			return resumed{"pending"}, nil
		case <-ctx.Done():
			return resumed{}, ctx.Err()
		}
	}
}

// notResumed answers with why a run does not go on.
func (s *Server) notResumed(w http.ResponseWriter, r *http.Request, err error) {
	var problem *rollout.Problem
	if errors.Is(err, errNotResumed) || errors.As(err, &problem) {
		s.fail(w, r, http.StatusConflict, err)
		return
	}
	s.failed(w, r, err)
}

func (s *Server) apiResume(w http.ResponseWriter, r *http.Request) {
	out, err := s.resume(r)
	switch {
	case err != nil:
		s.notResumed(w, r, err)
	case out.Answer == "pending":
		writeJSON(w, http.StatusAccepted, out)
	default:
		writeJSON(w, http.StatusOK, out)
	}
}

// pageResume is what the button of a run's page does.
func (s *Server) pageResume(w http.ResponseWriter, r *http.Request) {
	if _, err := s.resume(r); err != nil {
		s.notResumed(w, r, err)
		return
	}
	http.Redirect(w, r, "/runs/"+url.PathEscape(r.PathValue("run")), http.StatusSeeOther)
}
