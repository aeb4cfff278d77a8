package server

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// pathOf fills in the wildcards of a pattern.
func pathOf(pattern string) (method, path string) {
	method, path, _ = strings.Cut(pattern, " ")
	return method, strings.NewReplacer("{run}", runID, "{host}", "worker01", "{proposal}", "1", "{file}", "style.css", "{$}", "").Replace(path)
}

// TestEveryRoute asks for every route without a token, with wrong ones, and with
// a right one.
func TestEveryRoute(t *testing.T) {
	dir := t.TempDir()
	recordRun(t, dir, runID, fleet(8)).play(1<<30, nil)
	recordLook(t, dir, look{})
	s := brief(t, dir)
	var open []string
	for _, rt := range s.routes() {
		if rt.open {
			open = append(open, rt.pattern)
		}
	}
	if want := []string{"GET /healthz", "GET /readyz", "GET /api/v1/openapi.yaml", "GET /login", "POST /login", "GET /assets/{file}"}; !slices.Equal(open, want) {
		t.Errorf("%q ask for no token, and should be %q", open, want)
	}
	for _, rt := range s.routes() {
		method, path := pathOf(rt.pattern)
		if changes(method) && rt.role == "" && path != "/login" && path != "/logout" {
			t.Errorf("%s is for everybody who reads", rt.pattern)
		}
		for name, c := range map[string]struct {
			header  string
			allowed bool
		}{
			"none":             {"", rt.open},
			"wrong":            {"Bearer wrong", rt.open},
			"empty":            {"Bearer ", rt.open},
			"a digest":         {"Bearer " + hexOf(sumOf(viewerSecret)), rt.open},
			"no bearer":        {viewerSecret, rt.open},
			"basic":            {"Basic " + viewerSecret, rt.open},
			"a token and more": {"Bearer " + viewerSecret + "x", rt.open},
			"viewer":           {"Bearer " + viewerSecret, rt.role == ""},
			"operator":         {"Bearer " + operatorSecret, rt.role == "" || rt.role == Operator},
			"approver":         {"Bearer " + approverSecret, rt.role == "" || rt.role == Approver},
		} {
			r := request(method, path, "", nil)
			if c.header != "" {
				r.Header.Set("Authorization", c.header)
			}
			w := ask(s, r)
			refused := w.Code == http.StatusUnauthorized || w.Code == http.StatusForbidden
			if path == "/login" && method == http.MethodPost {
				refused = false // without a token in the form it refuses everybody
			}
			if refused == c.allowed {
				t.Errorf("%s with token %q: %d", rt.pattern, name, w.Code)
			}
			if refused && bytes.Contains(w.Body.Bytes(), []byte("worker")) {
				t.Errorf("%s with token %q tells something of the fleet: %s", rt.pattern, name, w.Body)
			}
			for k, v := range headers {
				if got := w.Header().Get(k); got != v && k != "Cache-Control" {
					t.Errorf("%s: %s is %q", rt.pattern, k, got)
				}
			}
		}
	}
}

// TestForeign: requests of other sites, and for other names, are refused, whoever
// asks.
func TestForeign(t *testing.T) {
	s := serve(t, t.TempDir())
	for _, c := range []struct {
		name   string
		method string
		set    func(*http.Request)
		want   int
	}{
		{"as it should be", "GET", func(*http.Request) {}, 200},
		{"localhost", "GET", func(r *http.Request) { r.Host = "localhost:8420" }, 200},
		{"IPv6", "GET", func(r *http.Request) { r.Host = "[::1]:8420" }, 200},
		{"another name", "GET", func(r *http.Request) { r.Host = "evil.example:8420" }, 421},
		{"another port", "GET", func(r *http.Request) { r.Host = "localhost:80" }, 421},
		{"no name", "GET", func(r *http.Request) { r.Host = "" }, 421},
		{"a name that ends so", "GET", func(r *http.Request) { r.Host = "localhost.evil.example:8420" }, 421},
		{"a script of another site", "GET", func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			r.Header.Set("Sec-Fetch-Mode", "no-cors")
		}, 403},
		{"a link of another site", "GET", func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			r.Header.Set("Sec-Fetch-Mode", "navigate")
		}, 200},
		{"a form of another site", "POST", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403},
		{"a form of another port", "POST", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }, 403},
		{"an old browser's form of another site", "POST", func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") }, 403},
		{"a form of no site", "POST", func(r *http.Request) { r.Header.Set("Origin", "null") }, 403},
		{"a form of ours", "POST", func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", "same-origin")
			r.Header.Set("Origin", "http://"+DefaultListen)
		}, 303},
	} {
		path := "/api/v1/runs"
		if c.method == "POST" {
			path = "/logout"
		}
		r := request(c.method, path, viewerSecret, nil)
		c.set(r)
		if w := ask(s, r); w.Code != c.want {
			t.Errorf("%s: %d, want %d: %s", c.name, w.Code, c.want, w.Body)
		}
	}
}

func TestPathsLeadNowhere(t *testing.T) {
	dir := t.TempDir()
	recordRun(t, dir, runID, fleet(4))
	s := serve(t, dir)
	for _, path := range []string{
		"/assets/run.html", "/assets/..%2fserver.go", "/assets/%2e%2e/server.go", "/runs/..%2f..%2fetc%2fpasswd", "/runs/%00", "/runs/" + runID + "/hosts/%2e%2e",
		"/runs/" + strings.Repeat("a", 5000), "/api/v1/runs/'%20OR%201=1", "/api/v1/runs?before=x", "/nothing", "/api/v1/runs/x/events", "/api/v1/runs/x/hosts",
	} {
		if w := get(t, s, path); w.Code != http.StatusNotFound && w.Code != http.StatusBadRequest && w.Code/100 != 3 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	for _, path := range []string{"/api/v1/runs?limit=-1", "/api/v1/runs?limit=9999", "/api/v1/runs?limit=x", "/api/v1/runs/" + runID + "/hosts?state=x", "/api/v1/runs/" + runID + "/events?after=x"} {
		if w := get(t, s, path); w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if w := ask(s, request(http.MethodDelete, "/api/v1/runs/"+runID, "another", nil)); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("DELETE: %d", w.Code)
	}
}

func postForm(s http.Handler, path string, form url.Values, cookies ...*http.Cookie) *httptest.ResponseRecorder {
	r := request(http.MethodPost, path, "", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, c := range cookies {
		r.AddCookie(c)
	}
	return ask(s, r)
}

// withCookie is what a browser gets that keeps that cookie.
func withCookie(s http.Handler, path string, c *http.Cookie) *httptest.ResponseRecorder {
	r := request(http.MethodGet, path, "", nil)
	r.Header.Set("Accept", "text/html")
	r.AddCookie(c)
	return ask(s, r)
}

func TestSession(t *testing.T) {
	s := serve(t, t.TempDir())
	now := time.Now()
	s.sessions.now = func() time.Time { return now }

	r := request(http.MethodGet, "/runs/x?q=y", "", nil)
	r.Header.Set("Accept", "text/html")
	if w := ask(s, r); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/login?to=%2Fruns%2Fx%3Fq%3Dy" {
		t.Errorf("a browser that is not logged in: %d, %s", w.Code, w.Header().Get("Location"))
	}
	if w := postForm(s, "/login", url.Values{"token": {"wrong"}}); w.Code != http.StatusUnauthorized || len(w.Result().Cookies()) > 0 {
		t.Errorf("a wrong token: %d, %v", w.Code, w.Result().Cookies())
	}
	for to, want := range map[string]string{"/runs/x?q=y": "/runs/x?q=y", "": "/", "//evil.example": "/", "https://evil.example/": "/", `/\evil.example`: "/", "runs": "/", "javascript:alert(1)": "/"} {
		if w := postForm(s, "/login", url.Values{"token": {viewerSecret}, "to": {to}}); w.Header().Get("Location") != want {
			t.Errorf("after the login to %q: %q", to, w.Header().Get("Location"))
		}
	}
	// A session that an attacker has planted is not taken over.
	planted := &http.Cookie{Name: s.cookie, Value: "planted"}
	w := postForm(s, "/login", url.Values{"token": {viewerSecret}}, planted)
	c := w.Result().Cookies()[0]
	if c.Value == planted.Value || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" {
		t.Errorf("cookie %v", c)
	}
	if w := withCookie(s, "/", planted); w.Code != http.StatusSeeOther {
		t.Errorf("with the planted cookie: %d", w.Code)
	}
	if w := withCookie(s, "/", c); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "vera") {
		t.Errorf("with the cookie: %d, %s", w.Code, w.Body)
	}
	// A new login ends the session before.
	again := postForm(s, "/login", url.Values{"token": {viewerSecret}}, c).Result().Cookies()[0]
	if w := withCookie(s, "/", c); w.Code != http.StatusSeeOther {
		t.Errorf("with the cookie of before: %d", w.Code)
	}
	if w := postForm(s, "/logout", nil, again); w.Code != http.StatusSeeOther {
		t.Errorf("logout: %d", w.Code)
	}
	if w := withCookie(s, "/", again); w.Code != http.StatusSeeOther {
		t.Errorf("after the logout: %d", w.Code)
	}
	late := postForm(s, "/login", url.Values{"token": {viewerSecret}}).Result().Cookies()[0]
	now = now.Add(sessionLasts + time.Second)
	if w := withCookie(s, "/", late); w.Code != http.StatusSeeOther {
		t.Errorf("after twelve hours: %d", w.Code)
	}
	for range mostSessions + 10 {
		s.sessions.begin(Token{})
	}
	if n := len(s.sessions.by); n > mostSessions {
		t.Errorf("%d sessions are kept", n)
	}
}

// TestAudit: what changes something is in the log before it is done, and what
// cannot be is not done.
func TestAudit(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, dir)
	postForm(s, "/login", url.Values{"token": {viewerSecret}})
	postForm(s, "/login", url.Values{"token": {"wrong"}})
	ask(s, request(http.MethodPost, "/logout", "another", nil))
	ask(s, request(http.MethodPost, "/logout", "wrong", nil))
	get(t, s, "/api/v1/runs")
	f, err := os.Open(filepath.Join(dir, "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	var got []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var r record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %s %s %s%d", r.Who, r.Method, r.Path, r.Run, r.Status))
	}
	if want := "vera POST /login 0, olaf POST /logout 0, olaf POST /logout 303"; strings.Join(got, ", ") != want {
		t.Errorf("the audit log has %q, want %q", got, want)
	}

	s.audit.file = filepath.Join(dir, "gone", "audit.log")
	if w := postForm(s, "/login", url.Values{"token": {viewerSecret}}); w.Code != http.StatusServiceUnavailable || len(w.Result().Cookies()) > 0 {
		t.Errorf("a login that cannot be logged: %d", w.Code)
	}
	if w := ask(s, request(http.MethodPost, "/logout", viewerSecret, nil)); w.Code != http.StatusServiceUnavailable {
		t.Errorf("a change that cannot be logged: %d", w.Code)
	}
}

func TestBigAndSlowBodies(t *testing.T) {
	s := serve(t, t.TempDir())
	w := postForm(s, "/login", url.Values{"token": {strings.Repeat("x", mostBody)}})
	if w.Code != http.StatusBadRequest {
		t.Errorf("a big form: %d", w.Code)
	}

	// Over a real connection: whoever sends headers and no more is hung up on.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	h := &http.Server{Handler: s, ReadTimeout: 50 * time.Millisecond}
	go func() { _ = h.Serve(l) }() // ends with Close
	defer h.Close()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST /login HTTP/1.1\r\nHost: "+s.address+"\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\ntoken="); err != nil {
		t.Fatal(err)
	}
	if answer, _ := io.ReadAll(conn); bytes.Contains(answer, []byte("Set-Cookie")) { // it ends: the server hangs up
		t.Errorf("%s", answer)
	}
}
