package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/view"
)

// planFile is a plan as fleetd plan --out writes it, of the fleet prod.
func planFile(t testing.TB, p rollout.Plan) string {
	t.Helper()
	p.Source.Playbook = "playbooks/site.yml"
	if err := p.Seal(); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func digestOf(t testing.TB, plan string) string {
	t.Helper()
	p, err := rollout.ReadPlan([]byte(plan))
	if err != nil {
		t.Fatal(err)
	}
	return p.Digest
}

// prod is a fleet of the configuration.
func prod(t testing.TB) *scheduled {
	t.Helper()
	times, err := ParseTimes("@daily", time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	return &scheduled{Fleet: Fleet{Name: "prod", Inventory: "inventory.yaml", Times: times}}
}

// approving is a server with the fleet prod, and a clock that a test sets.
func approving(t *testing.T, dir string) (*Server, *time.Time) {
	s := brief(t, dir)
	now := began
	s.now = func() time.Time { return now }
	s.fleets = []*scheduled{prod(t)}
	return s, &now
}

func proposalOf(t *testing.T, w *httptest.ResponseRecorder, status int) (p view.Proposal) {
	t.Helper()
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != status {
		t.Fatalf("%d, %v: %s", w.Code, err, w.Body)
	}
	return p
}

// TestApprove: what one has proposed another one approves, by the digest that was read.
func TestApprove(t *testing.T) {
	s, now := approving(t, t.TempDir())
	plan := planFile(t, fleet(3))
	p := proposalOf(t, post(s, "/api/v1/proposals", bothSecret, plan), http.StatusCreated)
	if p.ID != 1 || p.State != "waiting" || p.By != "petra" || p.Digest != digestOf(t, plan) {
		t.Errorf("%+v", p)
	}
	path, body := "/api/v1/proposals/1/approve", `{"digest": "`+p.Digest+`"}`
	for _, c := range []struct {
		name, path, secret, body string
		status                   int
		text                     string
	}{
		{"her own", path, bothSecret, body, 403, "who has proposed a plan does not approve it"},
		{"an operator", path, operatorSecret, body, 403, "this takes a token with the role approver"},
		{"a viewer", path, viewerSecret, body, 403, "this takes a token with the role approver"},
		{"another digest", path, approverSecret, `{"digest": "abc"}`, 409, "it is not the plan that was read"},
		{"no digest", path, approverSecret, ``, 400, "the body does not say what was read"},
		{"none such", "/api/v1/proposals/7/approve", approverSecret, body, 404, "there is no such proposal"},
		{"no number", "/api/v1/proposals/x/approve", approverSecret, body, 404, "there is no such proposal"},
	} {
		if w := post(s, c.path, c.secret, c.body); w.Code != c.status || !strings.Contains(w.Body.String(), c.text) {
			t.Errorf("%s: %d, %s", c.name, w.Code, w.Body)
		}
	}
	if p = proposalOf(t, get(t, s, "/api/v1/proposals/1"), 200); p.State != "waiting" || p.Approved != "" {
		t.Errorf("after all of them: %+v", p)
	}
	if p = proposalOf(t, post(s, path, approverSecret, body), 200); p.State != "approved" || p.Approved != "arno" {
		t.Errorf("%+v", p)
	}
	if w := post(s, path, approverSecret, body); w.Code != 409 || !strings.Contains(w.Body.String(), "arno has approved it") {
		t.Errorf("twice: %d, %s", w.Code, w.Body)
	}
	// What has not begun within the hour waits again.
	*now = now.Add(approvalLasts)
	if p = proposalOf(t, get(t, s, "/api/v1/proposals/1"), 200); p.State != "waiting" {
		t.Errorf("after an hour: %+v", p)
	}
	*now = now.Add(proposalLasts)
	if p = proposalOf(t, get(t, s, "/api/v1/proposals/1"), 200); p.State != "expired" {
		t.Errorf("after a week: %+v", p)
	}
	if w := post(s, path, approverSecret, body); w.Code != 409 || !strings.Contains(w.Body.String(), "it is too old") {
		t.Errorf("too late: %d, %s", w.Code, w.Body)
	}
}

// TestProposeInVain: what is no plan, not whole, or of a fleet that the configuration
// does not have is not taken: an inventory may be a program.
func TestProposeInVain(t *testing.T) {
	s, _ := approving(t, t.TempDir())
	of := func(change func(*rollout.Plan)) string {
		p := fleet(3)
		p.Source.Playbook = "playbooks/site.yml"
		change(&p)
		if err := p.Seal(); err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	for name, c := range map[string]struct{ plan, text string }{
		"no plan":           {"{}", "send the file that fleetd plan --out has written"},
		"no JSON":           {"[", "send the file"},
		"changed":           {strings.Replace(planFile(t, fleet(3)), "worker01", "worker99", 1), "the plan was changed after it was made"},
		"nothing to do":     {of(func(p *rollout.Plan) { p.Plays = nil }), "nothing in it is to be done"},
		"another inventory": {of(func(p *rollout.Plan) { p.Source.Inventories = []string{"/tmp/evil.sh"} }), "fleetd plan inventory.yaml --out change.plan"},
		"two inventories":   {of(func(p *rollout.Plan) { p.Source.Inventories = []string{"inventory.yaml", "/tmp/evil.sh"} }), "of no fleet"},
		"another playbook":  {of(func(p *rollout.Plan) { p.Source.Playbook = "/tmp/evil.yml" }), "of no fleet"},
		"another cluster":   {of(func(p *rollout.Plan) { p.Source.Kubeconfig = "/tmp/evil" }), "of no fleet"},
		"another way":       {of(func(p *rollout.Plan) { p.Source.KubeVia = "n1" }), "of no fleet"},
	} {
		if w := post(s, "/api/v1/proposals", operatorSecret, c.plan); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), c.text) {
			t.Errorf("%s: %d, %s", name, w.Code, w.Body)
		}
	}
	if w := get(t, s, "/api/v1/proposals"); w.Body.String() != `{"proposals":[]}`+"\n" {
		t.Errorf("%s", w.Body)
	}
	if w := post(s, "/api/v1/proposals", approverSecret, planFile(t, fleet(3))); w.Code != http.StatusForbidden {
		t.Errorf("an approver proposes: %d", w.Code)
	}
	if w := post(s, "/logout", operatorSecret, strings.Repeat("x", mostBody+1)); w.Code == http.StatusCreated {
		t.Errorf("%d", w.Code)
	}
}

// starter counts what is started; what it starts ends when a test says so.
type starter struct {
	began []int64
	ended chan error
	err   error
}

func (st *starter) start(job Job) (<-chan error, error) {
	if st.err != nil {
		return nil, st.err
	}
	st.began, st.ended = append(st.began, job.Proposal), make(chan error, 1)
	return st.ended, nil
}

// TestBegin: what is approved is begun, once, by whichever server is there, when no
// other run is under way.
func TestBegin(t *testing.T) {
	dir := t.TempDir()
	s, now := approving(t, dir)
	st := &starter{}
	s.start = st.start
	started := map[int64]beginning{}
	look := func(want string) {
		t.Helper()
		if err := s.beginReady(t.Context(), started, nil); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(st.began); got != want {
			t.Errorf("started %s, want %s", got, want)
		}
	}
	look("[]") // there is no journal yet
	p := proposalOf(t, post(s, "/api/v1/proposals", operatorSecret, planFile(t, fleet(3))), http.StatusCreated)
	look("[]")
	l, err := journal.Acquire(dir, runID)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Release() }() // it is released below
	approve := func() {
		t.Helper()
		proposalOf(t, post(s, "/api/v1/proposals/1/approve", approverSecret, `{"digest": "`+p.Digest+`"}`), 200)
	}
	approve()
	look("[]") // another run is under way
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	look("[1]")
	look("[1]") // it is at it
	close(st.ended)
	look("[1]") // it has neither begun nor refused: not at once again
	*now = now.Add(tryAgain)
	look("[1 1]")

	// The server dies, and another one finds what was approved.
	s, later := approving(t, dir)
	*later = *now
	s.start, started = st.start, map[int64]beginning{}
	look("[1 1 1]")
	j, err := journal.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if err := j.Refuse(t.Context(), 1, "n1 was rebooted"); err != nil {
		t.Fatal(err)
	}
	close(st.ended)
	*later = later.Add(tryAgain)
	look("[1 1 1]")
	if p := proposalOf(t, get(t, s, "/api/v1/proposals/1"), 200); p.State != "waiting" || p.Refused != "n1 was rebooted" {
		t.Errorf("%+v", p)
	}
	now = later
	approve()
	look("[1 1 1 1]") // approved anew, it need not wait
	if _, err := j.BeginApproved(t.Context(), runID, *later, []byte("{}"), 1, p.Digest); err != nil {
		t.Fatal(err)
	}
	close(st.ended)
	*later = later.Add(tryAgain)
	look("[1 1 1 1]")
	if p := proposalOf(t, get(t, s, "/api/v1/proposals/1"), 200); p.State != "begun" || p.Run != runID {
		t.Errorf("%+v", p)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	s.begin(ctx) // it ends
}

// TestProposalPage: the plan is there to be read, and the button for who may.
func TestProposalPage(t *testing.T) {
	s, _ := approving(t, t.TempDir())
	p := fleet(3)
	p.Source.ExtraVars, p.Source.Limit = []string{"ansible_ssh_common_args=<script>"}, []string{"worker0*"}
	proposed := proposalOf(t, post(s, "/api/v1/proposals", bothSecret, planFile(t, p)), http.StatusCreated)
	cookie := func(secret string) *http.Cookie {
		return postForm(s, "/login", url.Values{"token": {secret}}).Result().Cookies()[0]
	}
	for _, c := range []struct{ secret, want, not string }{
		{viewerSecret, "It waits for somebody with the role approver", "<button>Approve"},
		{bothSecret, "somebody else has to approve it", "<button>Approve"},
		{approverSecret, "<button>Approve", "somebody else"},
	} {
		w := withCookie(s, "/proposals/1", cookie(c.secret))
		body := w.Body.String()
		for _, want := range []string{c.want, "ansible_ssh_common_args=&lt;script&gt;", "worker0*", "install kernel-ml-6.1.176-1.el8.elrepo.x86_64"} {
			if !strings.Contains(body, want) {
				t.Errorf("%s does not see %q: %s", c.secret, want, body)
			}
		}
		if strings.Contains(body, c.not) {
			t.Errorf("%s sees %q", c.secret, c.not)
		}
	}
	form := url.Values{"digest": {proposed.Digest}}
	if w := postForm(s, "/proposals/1/approve", form, cookie(bothSecret)); w.Code != http.StatusForbidden {
		t.Errorf("her own: %d", w.Code)
	}
	if w := postForm(s, "/proposals/1/approve", form, cookie(approverSecret)); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/proposals/1" {
		t.Errorf("%d, %s", w.Code, w.Body)
	}
	if w := withCookie(s, "/proposals/1", cookie(approverSecret)); !strings.Contains(w.Body.String(), "Approved by arno") || strings.Contains(w.Body.String(), "<button>Approve") {
		t.Errorf("%s", w.Body)
	}
	if w := withCookie(s, "/proposals", cookie(viewerSecret)); !strings.Contains(w.Body.String(), "badge approved") {
		t.Errorf("%s", w.Body)
	}
	if w := withCookie(s, "/proposals/x", cookie(viewerSecret)); w.Code != http.StatusNotFound {
		t.Errorf("%d", w.Code)
	}
}
