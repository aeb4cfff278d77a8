package server

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/view"
	"github.com/fleetd/fleetd/pkg/words"
)

const (
	// mostPlan bounds a plan that is proposed, in bytes: one of 5,000 hosts takes 30 MB.
	mostPlan = 64 << 20
	// proposalLasts is for how long a plan waits, approvalLasts for how long an approval
	// holds before the run has begun: who approves means now, or the next window.
	proposalLasts = 7 * 24 * time.Hour
	approvalLasts = time.Hour
	mostProposals = 100
)

// standingOf is how a proposal stands.
func (s *Server) standingOf(ctx context.Context, p journal.Proposal) (view.Proposal, error) {
	now := s.now()
	out := view.Proposal{ID: p.ID, State: "expired", Digest: p.Digest, By: p.By, At: p.At.UTC(), Until: p.Until.UTC(), Approved: p.Approved, Run: p.Run, Refused: p.Refused}
	switch {
	case p.Run != "":
		out.State = "begun"
	case p.Ready(now):
		out.State = "approved"
	case p.Open(now):
		out.State = "waiting"
	}
	if p.Approved != "" {
		out.ApprovedUntil = p.ApprovedUntil.UTC()
	}
	if out.State != "waiting" && out.State != "approved" {
		return out, nil
	}
	w, err := s.windowOf(ctx, p.ID, p.Digest)
	if err == nil && !w.open(now) && !w.opens.IsZero() {
		out.BeginsAt = w.opens.UTC()
	}
	return out, err
}

// answerProposal tells how a proposal stands, or why that is not known.
func (s *Server) answerProposal(w http.ResponseWriter, r *http.Request, status int, p journal.Proposal, err error) {
	var st view.Proposal
	if err == nil {
		st, err = s.standingOf(r.Context(), p)
	}
	if err != nil {
		s.notProposal(w, r, err)
		return
	}
	writeJSON(w, status, st)
}

// errProposal is for a plan that cannot be proposed.
var errProposal = errors.New("the plan cannot be proposed")

func badPlan(hint, format string, args ...any) error {
	return fmt.Errorf("%w: %s\n%s", errProposal, fmt.Sprintf(format, args...), hint)
}

// notProposal answers with why a proposal is not so.
func (s *Server) notProposal(w http.ResponseWriter, r *http.Request, err error) {
	status := 0
	switch {
	case errors.Is(err, errProposal):
		status = http.StatusBadRequest
	case errors.Is(err, journal.ErrNoProposal):
		status = http.StatusNotFound
	case errors.Is(err, journal.ErrOwnProposal):
		status = http.StatusForbidden
	case errors.Is(err, journal.ErrNotOpen), errors.Is(err, journal.ErrOtherDigest):
		status = http.StatusConflict
	default:
		s.failed(w, r, err)
		return
	}
	s.fail(w, r, status, err)
}

// apiPropose keeps a plan, as plan --out has saved it, until somebody approves it.
func (s *Server) apiPropose(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	var plan rollout.Plan
	if err == nil {
		plan, err = rollout.ReadPlan(raw)
	}
	switch {
	case err != nil:
		err = badPlan("send the file that fleetd plan --out has written", "%v", err)
	case plan.Steps() == 0:
		err = badPlan("there is nothing to approve", "nothing in it is to be done")
	case !slices.ContainsFunc(s.fleets, func(f *scheduled) bool { return s.isOf(plan.Source, f.Fleet) }):
		err = badPlan("plan it as the configuration has the fleet: "+strings.Join(s.ways(), "; or "), "it is of no fleet of the configuration")
	}
	if err != nil {
		s.notProposal(w, r, err)
		return
	}
	p, err := s.change(func(j *journal.Journal) (journal.Proposal, error) {
		now := s.now()
		return j.Propose(r.Context(), &plan, who(r).Name, now, now.Add(proposalLasts))
	})
	s.answerProposal(w, r, http.StatusCreated, p, err)
}

// isOf reports whether a plan was made of a fleet of the configuration. No other is
// taken: to plan anew, apply reads inventory and playbook, and an inventory may be a
// program.
func (s *Server) isOf(src rollout.Source, f Fleet) bool {
	return len(src.Inventories) == 1 && src.Inventories[0] == f.Inventory && src.Playbook == cmp.Or(f.Playbook, s.playbook) && src.Kubeconfig == f.Kubeconfig && src.KubeVia == ""
}

// ways are the command lines that plan the fleets of the configuration.
func (s *Server) ways() (out []string) {
	for _, f := range s.fleets {
		argv := []string{"fleetd", "plan", f.Inventory}
		if f.Playbook != "" {
			argv = append(argv, "--playbook", f.Playbook)
		}
		if f.Kubeconfig != "" {
			argv = append(argv, "--kubeconfig", f.Kubeconfig)
		}
		out = append(out, words.Quote(append(argv, "--out", "change.plan")...))
	}
	return out
}

// change does something in the journal that others write as well.
func (s *Server) change(f func(*journal.Journal) (journal.Proposal, error)) (journal.Proposal, error) {
	j, err := journal.Open(s.store.dir)
	if err != nil {
		return journal.Proposal{}, err
	}
	p, err := f(j)
	return p, errors.Join(err, j.Close())
}

// proposals are those that there are, the newest first.
func (s *Server) proposals(ctx context.Context) ([]journal.Proposal, error) {
	j, err := s.store.open()
	if err != nil || j == nil {
		return nil, err
	}
	return j.Proposals(ctx)
}

// proposalList are proposals, the newest first.
type proposalList struct {
	Proposals []view.Proposal `json:"proposals"`
}

func (s *Server) proposalList(ctx context.Context) (proposalList, error) {
	out := proposalList{[]view.Proposal{}}
	all, err := s.proposals(ctx)
	for _, p := range all[:min(len(all), mostProposals)] {
		st, unread := s.standingOf(ctx, p)
		if unread != nil { // when it begins is not told; its own page says why
			s.log.Warn("cannot read a plan that was proposed", "proposal", p.ID, "error", unread)
		}
		out.Proposals = append(out.Proposals, st)
	}
	return out, err
}

func (s *Server) apiProposals(w http.ResponseWriter, r *http.Request) {
	out, err := s.proposalList(r.Context())
	if err != nil {
		s.failed(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, out)
}

// proposal is the one that a request names, with its plan.
func (s *Server) proposal(r *http.Request) (view.Proposal, *rollout.Plan, error) {
	id, err := number64(r)
	if err != nil {
		return view.Proposal{}, nil, err
	}
	j, err := s.store.open()
	if err == nil && j == nil {
		err = journal.ErrNoProposal
	}
	if err != nil {
		return view.Proposal{}, nil, err
	}
	p, plan, err := j.Proposal(r.Context(), id)
	if err != nil {
		return view.Proposal{}, nil, err
	}
	st, err := s.standingOf(r.Context(), p)
	return st, plan, err
}

func number64(r *http.Request) (int64, error) {
	id, err := strconv.ParseInt(r.PathValue("proposal"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %q", journal.ErrNoProposal, clip(r.PathValue("proposal")))
	}
	return id, nil
}

// proposed is a proposal with its plan.
type proposed struct {
	view.Proposal
	Plan *rollout.Plan `json:"plan"`
}

func (s *Server) apiProposal(w http.ResponseWriter, r *http.Request) {
	st, plan, err := s.proposal(r)
	if err != nil {
		s.notProposal(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, proposed{st, plan})
}

// approve approves what a request names, as the plan of that digest.
func (s *Server) approve(r *http.Request, digest string) (journal.Proposal, error) {
	id, err := number64(r)
	if err != nil {
		return journal.Proposal{}, err
	}
	if !journal.Exists(s.store.dir) {
		return journal.Proposal{}, journal.ErrNoProposal
	}
	p, err := s.change(func(j *journal.Journal) (journal.Proposal, error) {
		w, err := s.windowOf(r.Context(), id, digest)
		if err != nil {
			return journal.Proposal{}, err
		}
		now := s.now()
		return j.Approve(r.Context(), id, digest, who(r).Name, now, w.holds(now))
	})
	if err == nil {
		s.log.Info("a plan is approved", "proposal", id, "digest", digest, "proposed_by", p.By, "approved_by", p.Approved)
	}
	return p, err
}

func (s *Server) apiApprove(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Digest string `json:"digest"`
	}
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&body); err != nil || body.Digest == "" {
		s.fail(w, r, http.StatusBadRequest, errors.New("the body does not say what was read\nsend {\"digest\": \"…\"}, that of the plan"))
		return
	}
	p, err := s.approve(r, body.Digest)
	s.answerProposal(w, r, http.StatusOK, p, err)
}

func (s *Server) pageProposals(w http.ResponseWriter, r *http.Request) {
	out, err := s.proposalList(r.Context())
	if err != nil {
		s.failed(w, r, err)
		return
	}
	s.pages.write(w, http.StatusOK, "proposals", s.page(r, "Plans", out))
}

// proposalBody is a proposal on its page.
type proposalBody struct {
	view.Proposal
	Source rollout.Source
	Text   template.HTML
	// Yours tells that who looks has proposed it.
	Yours bool
}

func (s *Server) pageProposal(w http.ResponseWriter, r *http.Request) {
	st, plan, err := s.proposal(r)
	if err != nil {
		s.notProposal(w, r, err)
		return
	}
	var b bytes.Buffer
	view.Plan(&b, view.Style{Colour: true}, plan)
	t, _, _ := s.identity(r)
	s.pages.write(w, http.StatusOK, "proposal", s.page(r, fmt.Sprintf("Plan %d", st.ID), proposalBody{st, plan.Source, terminal(b.String()), t.Name == st.By}))
}

func (s *Server) pageApprove(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		s.fail(w, r, http.StatusBadRequest, err)
		return
	}
	p, err := s.approve(r, r.PostForm.Get("digest"))
	if err != nil {
		s.notProposal(w, r, err)
		return
	}
	http.Redirect(w, r, fmt.Sprintf("/proposals/%d", p.ID), http.StatusSeeOther)
}
