package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// hear does with the next request what the engine does with it, and calls then.
func (rec *recording) hear(then func(rollout.Request)) (done <-chan struct{}) {
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			if asked, err := rec.w.Requests(rec.t.Context()); err != nil || len(asked) > 0 {
				if err != nil {
					rec.t.Error(err)
					return
				}
				then(asked[0])
				return
			}
		}
		rec.t.Error("nobody asks")
	}()
	return heard
}

// take adds a request to the events of the run.
func (rec *recording) take(q rollout.Request) {
	rec.add(0, rollout.Event{Type: rollout.RunRequested, Request: &q})
}

func post(s http.Handler, path, secret, body string) *httptest.ResponseRecorder {
	return ask(s, request(http.MethodPost, path, secret, strings.NewReader(body)))
}

// TestPauseByTheAPI: what an operator asks for the run hears, in her name; who reads it
// later reads so.
func TestPauseByTheAPI(t *testing.T) {
	dir := t.TempDir()
	rec := recordRun(t, dir, runID, fleet(8))
	rec.play(5, nil)
	s := serve(t, dir)
	done := rec.hear(rec.take)
	w := post(s, "/api/v1/runs/"+runID+"/pause", operatorSecret, `{"reason": "the storage is slow"}`)
	<-done
	var got requested
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK || got.Answer != journal.Heard || got.Request.By.User != "otto" {
		t.Fatalf("%d, %v: %s", w.Code, err, w.Body)
	}
	if q := rec.run.Asked; q == nil || q.String() != "paused by otto: the storage is slow" {
		t.Errorf("the run has heard %v", q)
	}
	if w := get(t, s, "/runs/"+runID); !strings.Contains(w.Body.String(), "A pause was asked for by otto: the storage is slow") {
		t.Errorf("the page does not tell: %s", w.Body)
	}
}

// TestRequestInVain: who may not ask, and what is over, changes nothing; the audit log
// tells of both.
func TestRequestInVain(t *testing.T) {
	dir := t.TempDir()
	rec := recordRun(t, dir, runID, fleet(8))
	rec.play(5, nil)
	s := brief(t, dir)
	path := "/api/v1/runs/" + runID
	if w := post(s, path+"/abort", viewerSecret, ""); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "this takes a token with the role operator") {
		t.Errorf("a viewer aborts: %d, %s", w.Code, w.Body)
	}
	if w := post(s, path+"/abort", operatorSecret, `{"reason": "`+strings.Repeat("x", 600)+`"}`); w.Code != http.StatusBadRequest {
		t.Errorf("a long reason: %d, %s", w.Code, w.Body)
	}
	if got, err := rec.w.Requests(t.Context()); len(got) > 0 || err != nil {
		t.Fatalf("the run hears %v, %v", got, err)
	}

	// It ends before it looks.
	s.patience = time.Minute
	done := rec.hear(func(rollout.Request) { rec.add(0, rollout.Event{Type: rollout.RunDone}) })
	if w := post(s, path+"/pause", operatorSecret, ""); w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "the run ended before it looked") {
		t.Errorf("a run that ends: %d, %s", w.Code, w.Body)
	}
	<-done
	if w := post(s, path+"/pause", operatorSecret, ""); w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "it is done") {
		t.Errorf("a run that is over: %d, %s", w.Code, w.Body)
	}
	if w := post(s, "/api/v1/runs/none/pause", operatorSecret, ""); w.Code != http.StatusNotFound {
		t.Errorf("no run: %d, %s", w.Code, w.Body)
	}

	raw, err := os.ReadFile(filepath.Join(dir, "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(raw)) {
		var r record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %v %s %s %d", r.Who, r.Roles, strings.TrimPrefix(r.Path, "/api/v1/runs/"), r.Run, r.Status))
	}
	var want []string
	for _, l := range []struct {
		who, path, run string
		status         int
	}{
		{"vera [viewer]", runID + "/abort", runID, 403}, {"otto [operator]", runID + "/abort", runID, 400}, {"otto [operator]", runID + "/pause", runID, 409},
		{"otto [operator]", runID + "/pause", runID, 409}, {"otto [operator]", "none/pause", "none", 404},
	} {
		for _, status := range []int{0, l.status} { // before it is done, and after
			want = append(want, fmt.Sprintf("%s %s %s %d", l.who, l.path, l.run, status))
		}
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the audit log has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestPauseOnThePage: the buttons are there for who may, and do what they say.
func TestPauseOnThePage(t *testing.T) {
	dir := t.TempDir()
	rec := recordRun(t, dir, runID, fleet(8))
	rec.play(5, nil)
	s := brief(t, dir)
	cookie := func(secret string) *http.Cookie {
		return postForm(s, "/login", url.Values{"token": {secret}}).Result().Cookies()[0]
	}
	vera, otto := cookie(viewerSecret), cookie(operatorSecret)
	if w := withCookie(s, "/runs/"+runID, vera); w.Code != 200 || strings.Contains(w.Body.String(), "Pause") {
		t.Errorf("a viewer sees the button: %d, %s", w.Code, w.Body)
	}
	if w := withCookie(s, "/runs/"+runID, otto); !strings.Contains(w.Body.String(), `<section id="controls" aria-labelledby="controls-title">`) {
		t.Errorf("an operator sees none: %s", w.Body)
	}
	reason := url.Values{"reason": {"<b>wrong window"}}
	if w := postForm(s, "/runs/"+runID+"/abort", reason, vera); w.Code != http.StatusForbidden {
		t.Errorf("a viewer aborts: %d", w.Code)
	}
	r := request(http.MethodPost, "/runs/"+runID+"/abort", "", strings.NewReader(reason.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	r.AddCookie(otto)
	if w := ask(s, r); w.Code != http.StatusForbidden {
		t.Errorf("a page of another site aborts: %d", w.Code)
	}
	if got, err := rec.w.Requests(t.Context()); len(got) > 0 || err != nil {
		t.Fatalf("the run hears %v, %v", got, err)
	}
	if w := postForm(s, "/runs/"+runID+"/abort", reason, otto); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/runs/"+runID {
		t.Errorf("an operator aborts: %d, %s", w.Code, w.Body)
	}
	got, err := rec.w.Requests(t.Context())
	if err != nil || len(got) != 1 || got[0].Verb != rollout.Abort || got[0].By.User != "otto" {
		t.Fatalf("the run hears %v, %v", got, err)
	}
	rec.take(got[0])
	rec.add(0, rollout.Event{Type: rollout.RunHalted, Halt: &rollout.Halt{Reason: got[0].String()}})
	s = brief(t, dir) // which has read nothing yet
	otto = cookie(operatorSecret)
	w := withCookie(s, "/runs/"+runID, otto)
	if body := w.Body.String(); strings.Contains(body, "<b>wrong") || !strings.Contains(body, "aborted by otto: &lt;b&gt;wrong window") || !strings.Contains(body, `controls-title" hidden>`) {
		t.Errorf("after it: %s", body)
	}
	r = request(http.MethodPost, "/runs/"+runID+"/pause", "", nil)
	r.Header.Set("Accept", "text/html")
	r.AddCookie(otto)
	if w := ask(s, r); w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "it was halted") || !strings.Contains(w.Body.String(), "<html") {
		t.Errorf("a button that came too late: %d, %s", w.Code, w.Body)
	}
}
