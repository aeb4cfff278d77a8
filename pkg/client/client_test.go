package client

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/server"
	"github.com/fleetd/fleetd/pkg/view"
)

// TestAddress: the token goes over TLS, or stays on this machine, and no error shows a
// password.
func TestAddress(t *testing.T) {
	for url, want := range map[string]string{
		"https://bastion.example.org:8420":     "",
		"https://bastion.example.org/":         "",
		"http://127.0.0.1:8420":                "",
		"http://[::1]:8420":                    "",
		"http://localhost:8420":                "",
		"http://bastion:8420":                  "the token would be read on the way\ngive https://",
		"http://10.0.0.5:8420":                 "the token would be read on the way\ngive https://",
		"http://localhost.example.org":         "the token would be read on the way\ngive https://",
		"bastion:8420":                         "it is no address\ngive one as https://",
		"ftp://bastion":                        "it is no address",
		"":                                     "it is no address",
		"https://anna:secret@bastion":          "belongs into FLEETD_TOKEN or a file",
		"https://bastion:8420/runs/x":          "give the address alone: https://bastion:8420",
		"https://bastion?token=x":              "give the address alone",
		"https://anna:secret@bastion:8420\x1b": "no address",
	} {
		_, err := New(Options{URL: url, Token: "token"})
		if want == "" && err == nil {
			continue
		}
		if want == "" || err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%q: %v, expected %q", url, err, want)
		}
	}
	for _, token := range []string{"", "two\nlines", "Bärbel"} {
		if _, err := New(Options{URL: "https://bastion", Token: token}); err == nil || token != "" && strings.Contains(err.Error(), token) {
			t.Errorf("token %q: %v", token, err)
		}
	}
}

// TestPause: what is asked for is asked in the name of the token, and whoever may not is
// told what the server says.
func TestPause(t *testing.T) {
	dir := t.TempDir()
	w := recordRun(t, dir)
	as := serving(t, dir)
	if run, err := as(server.Viewer).Last(t.Context()); run != runID || err != nil {
		t.Fatal(run, err)
	}
	_, err := as(server.Viewer).Request(t.Context(), runID, rollout.Pause, "")
	var refused *Error
	if !errors.As(err, &refused) || refused.Status != http.StatusForbidden || !strings.Contains(err.Error(), "this takes a token with the role operator\nthe-viewer has") {
		t.Fatal(err)
	}
	if _, err := as(server.Operator).Request(t.Context(), "..", rollout.Pause, ""); err == nil {
		t.Error("a run of that name was paused")
	}
	go func() {
		for t.Context().Err() == nil {
			if asked, err := w.Requests(t.Context()); err == nil && len(asked) > 0 {
				if err := w.Append(t.Context(), []rollout.Event{{Seq: 2, At: time.Now(), Type: rollout.RunRequested, Request: &asked[0]}}); err != nil {
					t.Error(err)
				}
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	heard, err := as(server.Operator).Request(t.Context(), runID, rollout.Pause, "the storage is slow")
	if !heard || err != nil {
		t.Fatal(heard, err)
	}
	if _, err := as(server.Operator).Request(t.Context(), "nothing", rollout.Abort, ""); !errors.As(err, &refused) || refused.Status != http.StatusNotFound {
		t.Error(err)
	}
}

// TestProposal: a plan goes up, comes down as it was, and is approved as that alone.
func TestProposal(t *testing.T) {
	as := serving(t, t.TempDir())
	p := plan(t, "install kernel-ml <6.1> & more")
	got, err := as(server.Operator).Propose(t.Context(), encoded(t, p))
	if err != nil || got.ID != 1 || got.State != "waiting" || got.Digest != p.Digest || got.By != "the-operator" {
		t.Fatalf("%+v, %v", got, err)
	}
	got, read, err := as(server.Approver).Proposal(t.Context(), 1)
	if err != nil || got.ID != 1 || read.Digest != p.Digest || read.Plays[0].Tasks[0].Steps["n1"].Change.Summary != "install kernel-ml <6.1> & more" {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := as(server.Approver).Approve(t.Context(), 1, plan(t, "another").Digest); err == nil || !strings.Contains(err.Error(), "it is not the plan that was read") {
		t.Fatal(err)
	}
	if _, err := as(server.Operator).Approve(t.Context(), 1, p.Digest); err == nil || !strings.Contains(err.Error(), "role approver") {
		t.Fatal(err)
	}
	got, err = as(server.Approver).Approve(t.Context(), 1, p.Digest)
	if err != nil || got.State != "approved" || got.Approved != "the-approver" || got.ApprovedUntil.IsZero() {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, _, err := as(server.Approver).Proposal(t.Context(), 7); err == nil || !strings.Contains(err.Error(), "no such proposal") {
		t.Fatal(err)
	}
}

// TestEvents: the events of a run come as the journal has them, with the plan, however
// many there are.
func TestEvents(t *testing.T) {
	dir := t.TempDir()
	w := recordRun(t, dir)
	id := rollout.StepID{Host: "n1"}
	events := []rollout.Event{{Seq: 2, Type: rollout.StepStarted, Step: &id, Attempt: 1}}
	for i := range 2 * pageOfEvents {
		events = append(events, rollout.Event{Seq: int64(3 + i), Type: rollout.StepOperation, Step: &id, Attempt: 1, Operation: &rollout.Operation{Kind: "ssh", Host: "n1", Text: fmt.Sprint("echo ", i)}})
	}
	add(t, w, events...)
	c := serving(t, dir)(server.Viewer)
	run, n := rollout.Run{}, 0
	for e, err := range c.Events(t.Context(), runID) {
		if err != nil {
			t.Fatal(err)
		}
		if err := run.Apply(e); err != nil {
			t.Fatal(err)
		}
		if n++; n > 2 && e.Operation.Text != fmt.Sprint("echo ", n-3) {
			t.Fatalf("event %d is %+v", n, e)
		}
	}
	if n != len(events)+1 || run.Plan.Digest != plan(t, "install kernel-ml").Digest || run.By.User != "anna" {
		t.Errorf("%d events, plan %s by %s", n, run.Plan.Digest, run.By)
	}
	for range c.Events(t.Context(), runID) {
		break
	}
	for _, err := range c.Events(t.Context(), "nothing") {
		if err == nil || !strings.Contains(err.Error(), "no such run") {
			t.Error(err)
		}
	}
}

// TestOtherEvents: a server that leaves events out, or shows another plan than the one
// that was carried out, is found out.
func TestOtherEvents(t *testing.T) {
	shown, meant := plan(t, "harmless"), plan(t, "not so")
	for name, events := range map[string]string{
		"another plan": fmt.Sprintf(`{"seq": 1, "type": "run.started", "plan": %q}`, meant.Digest),
		"one left out": fmt.Sprintf(`{"seq": 1, "type": "run.started", "plan": %q}, {"seq": 3, "type": "run.done"}`, shown.Digest),
		"the same":     fmt.Sprintf(`{"seq": 1, "type": "run.started", "plan": %q}, {"seq": 1, "type": "run.done"}`, shown.Digest),
	} {
		c := unkind(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			if strings.HasSuffix(r.URL.Path, "/plan") {
				_, _ = w.Write(encoded(t, shown))
				return
			}
			_, _ = io.WriteString(w, `{"events": [`+events+`]}`)
		})
		var last error
		for _, err := range c.Events(t.Context(), runID) {
			last = err
		}
		if last == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// TestRows: runs come page by page to the last, and not without an end.
func TestRows(t *testing.T) {
	rows := func(next func(before string) string) ([]view.RunRow, error) {
		return unkind(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, next(r.URL.Query().Get("before")))
		}).Rows(t.Context())
	}
	got, err := rows(func(before string) string {
		return map[string]string{"": `{"runs": [{"id": "c"}, {"id": "b"}], "more": true}`, "b": `{"runs": [{"id": "a"}], "more": false}`}[before]
	})
	if err != nil || len(got) != 3 || got[0].ID != "c" || got[2].ID != "a" {
		t.Error(got, err)
	}
	if got, err := rows(func(string) string { return `{"runs": [], "more": true}` }); got == nil || len(got) > 0 || err != nil {
		t.Error(got, err)
	}
	many := `{"runs": [` + strings.Repeat(`{"id": "a"},`, 20_000) + `{"id": "a"}], "more": true}`
	if _, err := rows(func(string) string { return many }); err == nil || !strings.Contains(err.Error(), "more than 100000 runs") {
		t.Error(err)
	}
	if _, err := rows(func(string) string { return `{"runs": [{"id": "a\u001b[2J b"}]}` }); err == nil || !strings.Contains(err.Error(), `with a run named "a\x1b[2J b"`) {
		t.Error(err)
	}
}

// TestOtherPlan: a server that shows one plan and has another approved is found out.
func TestOtherPlan(t *testing.T) {
	shown, meant := plan(t, "harmless"), plan(t, "not so")
	changed := *shown
	changed.Source.Playbook = "another.yml"
	for name, body := range map[string]string{
		"another plan": fmt.Sprintf(`{"id": 1, "digest": %q, "plan": %s}`, meant.Digest, encoded(t, shown)),
		"changed plan": fmt.Sprintf(`{"id": 1, "digest": %q, "plan": %s}`, shown.Digest, encoded(t, changed)),
		"other number": fmt.Sprintf(`{"id": 2, "digest": %q, "plan": %s}`, shown.Digest, encoded(t, shown)),
		"no plan":      `{"id": 1}`,
	} {
		c := unkind(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, body)
		})
		if _, _, err := c.Proposal(t.Context(), 1); err == nil {
			t.Errorf("%s is taken", name)
		}
		if _, err := c.Approve(t.Context(), 1, "0123"); err == nil {
			t.Errorf("%s is taken for approved", name)
		}
	}
}

// TestUnkind: whatever a server answers comes out as an error that can be read, and the
// token goes nowhere else.
func TestUnkind(t *testing.T) {
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	answer := func(status int, kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"its words":      {answer(409, "application/json", `{"error": "it is \u001b[2Jdone", "hint": "look\u0007 there"}`), "it is done\nlook\\x07 there"},
		"500":            {answer(500, "application/json", `{}`), "500 Internal Server Error"},
		"HTML":           {answer(200, "text/html; charset=utf-8", "<html>"), `answers with "text/html" (200 OK)`},
		"a proxy":        {answer(502, "text/html", "<html>"), `answers with "text/html" (502 Bad Gateway)` + "\nis the address"},
		"no JSON":        {answer(200, "application/json", "<html>"), "not that of the API"},
		"other JSON":     {answer(200, "application/json", `{"runs": 3}`), "not that of the API"},
		"half of it":     {answer(200, "application/json", `{"runs": [`), "not that of the API"},
		"a long error":   {answer(400, "application/json", `{"error": "`+strings.Repeat("x", 10_000)+`"}`), "xxx…"},
		"an endless one": {answer(400, "application/json", `{"error": "`+strings.Repeat("x", 1_000_000)+`"}`), "400 Bad Request"},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"runs": []}`)
		}, "cannot ask http://127.0.0.1:"},
		"huge": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for block := []byte(strings.Repeat(" ", 1<<20)); ; {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		}, "answers with more than 16 MB"},
		"elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		}, "elsewhere (http://127.0.0.1:"},
	} {
		_, _, err := unkind(t, c.answer).page(t.Context(), "", 50)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\x1b") || len(err.Error()) > 5000 {
			t.Errorf("%s: %.300v, expected %q", name, err, c.want)
		}
	}
	if n := elsewhere.Load(); n > 0 {
		t.Error("the token was sent elsewhere")
	}
}

// TestSlow: a server that does not answer is left, and what was asked of it may have been
// done.
func TestSlow(t *testing.T) {
	let := make(chan struct{})
	c := unkind(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-let
	})
	defer close(let)
	c.within = 10 * time.Millisecond
	if _, _, err := c.page(t.Context(), "", 1); err == nil || !strings.Contains(err.Error(), "no answer within 10ms") || strings.Contains(err.Error(), "done all the same") {
		t.Error(err)
	}
	if _, err := c.Approve(t.Context(), 1, "0123"); err == nil || !strings.Contains(err.Error(), "it may have been done all the same") {
		t.Error(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, _, err := c.page(ctx, "", 1); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestClientCertificate: a server that wants a certificate is shown the one that is named;
// one without its key, or with a key that others can read, is refused before.
func TestClientCertificate(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.CreateCertificate(nil, &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
		&x509.Certificate{SerialNumber: big.NewInt(1)}, public, private)
	if err != nil {
		t.Fatal(err)
	}
	own, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"runs": [], "more": false}`)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // it tells of who shows none
	s.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	s.TLS.ClientCAs.AddCert(own)
	s.StartTLS()
	defer s.Close()
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name, kind string, raw []byte, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	o := Options{URL: s.URL, Token: "token", Authority: file("ca", "CERTIFICATE", s.Certificate().Raw, 0o644)}
	ask := func() error {
		c, err := New(o)
		if err != nil {
			return err
		}
		defer c.http.CloseIdleConnections()
		_, _, err = c.page(t.Context(), "", 1)
		return err
	}
	fails := func(want string) {
		t.Helper()
		if err := ask(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	fails("--client-certificate FILE and --client-key FILE show one")
	o.Certificate = file("cert", "CERTIFICATE", raw, 0o644)
	fails("a certificate goes with its key")
	o.Key = filepath.Join(dir, "none")
	fails("cannot read the key of the certificate")
	o.Key = file("open", "PRIVATE KEY", key, 0o644)
	fails("others can read the key")
	o.Key = file("other", "PRIVATE KEY", []byte("x"), 0o600)
	fails("cannot read the certificate")
	o.Key = file("key", "PRIVATE KEY", key, 0o600)
	if err := ask(); err != nil {
		t.Error(err)
	}
}

// TestAuthority: a certificate is verified, by the authority that is named.
func TestAuthority(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"runs": [], "more": false}`)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // it tells of who does not trust it
	s.StartTLS()
	defer s.Close()
	if _, _, err := to(t, s.URL, "token").page(t.Context(), "", 1); err == nil || !strings.Contains(err.Error(), "--server-authority FILE names it") {
		t.Error(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	write := func(raw []byte) {
		if err := os.WriteFile(file, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	c, err := New(Options{URL: s.URL, Token: "token", Authority: file})
	if err != nil {
		t.Fatal(err)
	}
	defer c.http.CloseIdleConnections()
	if _, _, err := c.page(t.Context(), "", 1); err != nil {
		t.Error(err)
	}
	if _, err := c.Last(t.Context()); !errors.Is(err, ErrNoRun) {
		t.Error(err)
	}
	write([]byte("nothing"))
	if _, err := New(Options{URL: s.URL, Token: "token", Authority: file}); err == nil || !strings.Contains(err.Error(), "holds no certificate in PEM") {
		t.Error(err)
	}
}
