package server

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/view"
)

//go:embed openapi.yaml
var openapiText []byte

func (s *Server) openapi(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(openapiText) // who asked may be gone
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // plain data; who asked may be gone
}

// apiError is what is wrong, and what to do about it.
type apiError struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
}

// fail answers with an error, as a page to a browser.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, status int, err error) {
	message, hint, _ := strings.Cut(err.Error(), "\n")
	if hint == "" {
		hint = rollout.AsProblem(err).Hint
	}
	message, hint = text.Printable(message), text.Printable(hint)
	if wantsPage(r) {
		s.pages.write(w, status, "error", s.page(r, http.StatusText(status), apiError{message, hint}))
		return
	}
	writeJSON(w, status, apiError{message, hint})
}

// failed answers with an error of the store.
func (s *Server) failed(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case r.Context().Err() != nil: // nobody listens
	case errors.Is(err, journal.ErrNoRun):
		s.fail(w, r, http.StatusNotFound, fmt.Errorf("%w\nfleetd runs lists them", err))
	default:
		s.log.Warn("cannot answer", "path", r.URL.Path, "error", err)
		s.fail(w, r, http.StatusInternalServerError, err)
	}
}

// number is a parameter of the query between 1 and most; def if it is not there.
func number(r *http.Request, name string, def, most int64) (int64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return def, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > most {
		return 0, fmt.Errorf("%s is a number up to %d, not %q", name, most, clip(text))
	}
	return n, nil
}

func clip(s string) string {
	if r := []rune(s); len(r) > 80 {
		return string(r[:80]) + "…"
	}
	return s
}

// runList is a page of the list of runs.
type runList struct {
	Runs []view.RunRow `json:"runs"`
	// More is set where older ones follow: ?before= the last one's id.
	More bool `json:"more"`
}

func (s *Server) apiRuns(w http.ResponseWriter, r *http.Request) {
	limit, err := number(r, "limit", 50, 200)
	if err != nil {
		s.fail(w, r, http.StatusBadRequest, err)
		return
	}
	rows, more, err := s.store.list(r.Context(), r.URL.Query().Get("before"), int(limit))
	if err != nil {
		s.failed(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, runList{rows, more})
}

func (s *Server) apiRun(w http.ResponseWriter, r *http.Request) {
	st, err := s.runStanding(r)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, st)
}

// runStanding is how the run that a request names stands.
type runStanding struct {
	view.Standing
	// ResumesAt is when its next maintenance window opens, in which it goes on; nil = it
	// waits for none.
	ResumesAt *time.Time `json:"resumes_at,omitempty"`
	// MayResume is set where somebody can go on with it.
	MayResume bool `json:"-"`
}

func (s *Server) runStanding(r *http.Request) (out runStanding, err error) {
	f, err := s.store.follow(r.Context(), r.PathValue("run"))
	if err != nil {
		return out, err
	}
	is := f.now()
	out.Standing = is.view
	out.MayResume = !is.held && (out.Status == rollout.Interrupted || out.Status == rollout.Running)
	if out.Status == rollout.Interrupted {
		out.ResumesAt, err = s.resumesAt(r.Context(), out.ID)
	}
	return out, err
}

// apiPlan tells the plan that a run carries out, of which its events tell the digest.
func (s *Server) apiPlan(w http.ResponseWriter, r *http.Request) {
	f, err := s.store.follow(r.Context(), r.PathValue("run"))
	if err != nil {
		s.failed(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, f.plan())
}

// hostList are hosts of a run.
type hostList struct {
	Hosts []view.HostOfRun `json:"hosts"`
}

func (s *Server) apiHosts(w http.ResponseWriter, r *http.Request) {
	f, err := s.store.follow(r.Context(), r.PathValue("run"))
	if err != nil {
		s.failed(w, r, err)
		return
	}
	state := view.HostState(r.URL.Query().Get("state"))
	if state != "" && !slices.Contains(view.HostStates(), state) {
		s.fail(w, r, http.StatusBadRequest, fmt.Errorf("there is no state %q\nthe states are %v", clip(string(state)), view.HostStates()))
		return
	}
	out := hostList{[]view.HostOfRun{}}
	for _, h := range f.stands().Each {
		if state == "" || h.State == state {
			out.Hosts = append(out.Hosts, h)
		}
	}
	writeJSON(w, http.StatusOK, out)
}

// apiEvent is an event as the API tells it: of the plan, which may be of megabytes,
// the digest alone.
type apiEvent struct {
	rollout.Event
	Plan string `json:"plan,omitempty"`
}

func eventOf(e rollout.Event) apiEvent {
	out := apiEvent{Event: e}
	if e.Plan != nil {
		out.Plan, out.Event.Plan = e.Plan.Digest, nil
	}
	return out
}

// eventList are events of a run, in order.
type eventList struct {
	Events []apiEvent `json:"events"`
}

// apiEvents tells the events of a run: a page of them, or, as server-sent events,
// all of them and those that come.
func (s *Server) apiEvents(w http.ResponseWriter, r *http.Request) {
	after, err := number(r, "after", 0, 1<<62)
	if err != nil {
		s.fail(w, r, http.StatusBadRequest, err)
		return
	}
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		if after, err = strconv.ParseInt(last, 10, 64); err != nil || after < 0 {
			s.fail(w, r, http.StatusBadRequest, errors.New("Last-Event-ID is the number of an event"))
			return
		}
	}
	if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		s.streamEvents(w, r, after)
		return
	}
	limit, err := number(r, "limit", 200, 1000)
	if err != nil {
		s.fail(w, r, http.StatusBadRequest, err)
		return
	}
	j, err := s.store.open()
	if err == nil && j == nil {
		err = journal.ErrNoRun
	}
	if err != nil {
		s.failed(w, r, err)
		return
	}
	events, err := j.After(r.Context(), r.PathValue("run"), after, int(limit))
	if err != nil {
		s.failed(w, r, err)
		return
	}
	out := eventList{[]apiEvent{}}
	for _, e := range events {
		out.Events = append(out.Events, eventOf(e))
	}
	writeJSON(w, http.StatusOK, out)
}
