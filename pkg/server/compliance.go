package server

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/fleetd/fleetd/pkg/compliance"
	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/view"
)

// judged is a fleet that is held against policies.
type judged struct {
	// Name is that of the configuration; "" if it has none.
	Name string `json:"name,omitempty"`
	// Fleet tells it from others in the journal: the same inventories, playbook and file
	// of policies. "" if there is no report yet.
	Fleet string `json:"fleet,omitempty"`
	// Last is how it stands; nil if there is no report yet.
	Last *view.FleetStanding `json:"last,omitempty"`
	// Age is that of the last report, Old that it is not to be relied upon.
	Age float64 `json:"age_seconds,omitempty"`
	Old bool    `json:"old,omitempty"`
	// Kernels are what its hosts ran on each day that it was looked at, the oldest first.
	Kernels []kernelDay `json:"kernels,omitempty"`
	// Schedule is when it is looked at; nil if only when somebody does.
	Schedule *scheduleStanding `json:"schedule,omitempty"`
	// Ago is Age in words.
	Ago string `json:"-"`
}

// title is what a person calls it.
func (f judged) title() string {
	if f.Name != "" {
		return f.Name
	}
	return f.Last.Of
}

// anchor names its place on the page.
func (f judged) anchor() string { return "fleet-" + text.Printable(cmp.Or(f.Name, f.Fleet)) }

// judgedList are fleets.
type judgedList struct {
	Fleets []judged `json:"fleets"`
}

// staleAfter is when a report is old that no schedule renews.
const staleAfter = 48 * time.Hour

// judged are the fleets of the configuration, and then those that the journal has
// reports of beside them, the last looked at first.
func (s *Server) judged(ctx context.Context) (judgedList, error) {
	out := judgedList{[]judged{}}
	now := s.now()
	last, err := s.store.standings(ctx)
	if err != nil {
		return out, err
	}
	stood := func(k keptStanding) judged {
		return judged{
			Fleet: k.look.Fleet, Last: &k.standing, Kernels: k.kernels, Age: max(0, now.Sub(k.look.At)).Seconds(), Ago: k.standing.Ago(now), Old: now.Sub(k.look.At) > staleAfter,
		}
	}
	named := map[string]bool{}
	for _, f := range s.fleets {
		var j judged
		look, err := s.store.lastScheduled(ctx, f.Name)
		if err != nil {
			return out, err
		}
		var at time.Time
		if i := slices.IndexFunc(last, func(k keptStanding) bool { return look != nil && k.look.Fleet == look.Fleet }); i >= 0 {
			j, at = stood(last[i]), last[i].look.At
			named[j.Fleet] = true
		}
		j.Name = f.Name
		st, old := f.stands(now, at)
		j.Old = old && j.Last != nil
		j.Schedule = &st
		out.Fleets = append(out.Fleets, j)
	}
	for _, k := range last {
		if !named[k.look.Fleet] {
			out.Fleets = append(out.Fleets, stood(k))
		}
	}
	return out, nil
}

func (s *Server) apiCompliance(w http.ResponseWriter, r *http.Request) {
	all, err := s.judged(r.Context())
	if err != nil {
		s.failed(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, all)
}

func (s *Server) pageCompliance(w http.ResponseWriter, r *http.Request) {
	all, err := s.judged(r.Context())
	if err != nil {
		s.failed(w, r, err)
		return
	}
	s.pages.write(w, http.StatusOK, "compliance", s.page(r, "Compliance", all))
}

// keptStanding is how a fleet stood at a look, and what it ran until then. No look
// changes.
type keptStanding struct {
	look     journal.Look
	standing view.FleetStanding
	kernels  []kernelDay
}

// standings are how each fleet stood when it was looked at last, the last looked at
// first.
func (s *store) standings(ctx context.Context) ([]keptStanding, error) {
	j, err := s.open()
	if err != nil || j == nil {
		return nil, err
	}
	looks, err := j.LastLooks(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]keptStanding, 0, len(looks))
	kept := map[string]keptStanding{}
	for _, l := range looks {
		s.mu.Lock()
		k, ok := s.standing[l.Fleet]
		s.mu.Unlock()
		if !ok || k.look.Name != l.Name {
			if k, err = s.stood(ctx, j, l); err != nil {
				return nil, err
			}
		}
		kept[l.Fleet] = k
		out = append(out, k)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.standing = kept
	return out, nil
}

// stood is how a fleet stood at a look.
func (s *store) stood(ctx context.Context, j *journal.Journal, l journal.Look) (keptStanding, error) {
	rulings, err := j.Rulings(ctx, l.Name)
	if err != nil {
		return keptStanding{}, err
	}
	r, err := compliance.Remembered(l.About, rulings)
	if err != nil {
		return keptStanding{}, err
	}
	if len(r.Inventories) == 0 {
		r.Inventories = []string{l.Title} // an earlier fleetd kept no more
	}
	kernels, err := kernelDays(ctx, j, l)
	if err != nil {
		return keptStanding{}, err
	}
	return keptStanding{l, view.FleetStandingOf(l.Name, l.At, l.Hosts, r, s.mend(l.Schedule, r)), kernels}, nil
}
