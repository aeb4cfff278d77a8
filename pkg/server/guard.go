package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// mostBody bounds what a request may bring, but for a plan: the longest is a form with
// a token.
const mostBody = 64 << 10

// route is one path of the server.
type route struct {
	pattern string // as http.ServeMux has it
	open    bool   // no token is asked for
	role    Role   // who may; "" = who reads
	most    int64  // bytes that it takes; 0 = mostBody
	handle  http.HandlerFunc
}

// headers are those of every answer. The page has its style and script in files
// of its own, so nothing else need be allowed; what a node printed can do
// nothing even where it got past the escaping.
var headers = map[string]string{
	"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
	"Referrer-Policy":              "no-referrer",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Cache-Control":                "no-store",
}

// guard is what every request passes.
func (s *Server) guard(mux http.Handler) http.Handler {
	// A page of another site must not have a browser that is logged in here do
	// anything.
	foreign := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for k, v := range headers {
			w.Header().Set(k, v)
		}
		if !s.known(r.Host) {
			// A name of the attacker's that resolves to this machine (DNS rebinding).
			s.metrics.refused.WithLabelValues("host").Inc()
			s.fail(w, r, http.StatusMisdirectedRequest, fmt.Errorf("this server is not %q\nadd the name to hosts in its configuration if it is", clip(r.Host)))
			return
		}
		embedded := r.Header.Get("Sec-Fetch-Site") == "cross-site" && r.Header.Get("Sec-Fetch-Mode") != "navigate"
		if err := foreign.Check(r); err != nil || embedded {
			s.metrics.refused.WithLabelValues("cross-site").Inc()
			s.fail(w, r, http.StatusForbidden, errors.New("the request comes from a page of another site"))
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// known reports whether a request is for this server: its Host is the address
// that it listens on, or a name that it was told.
func (s *Server) known(hostport string) bool {
	host := hostport
	if h, port, err := net.SplitHostPort(hostport); err == nil {
		if _, own, err := net.SplitHostPort(s.address); err != nil || port != own && port != "443" {
			return false
		}
		host = h
	}
	return slices.ContainsFunc(s.names, func(n string) bool { return strings.EqualFold(n, strings.Trim(host, "[]")) })
}

// namesOf are the names by which a server of that configuration may be called.
func namesOf(c Config) []string {
	host, _, _ := net.SplitHostPort(c.Listen) // it was checked
	names := append([]string{host}, c.Hosts...)
	if loopback(c.Listen) {
		names = append(names, "localhost", "127.0.0.1", "::1")
	}
	return names
}

// admit asks for a token before a route is gone.
func (s *Server) admit(rt route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, cmp.Or(rt.most, mostBody))
		if rt.open {
			rt.handle(w, r)
			return
		}
		t, shown, ok := s.identity(r)
		if !ok {
			s.metrics.refused.WithLabelValues("token").Inc()
			if !shown && wantsPage(r) && !changes(r.Method) {
				http.Redirect(w, r, "/login?to="+urlQuery(r.URL.RequestURI()), http.StatusSeeOther)
				return
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="fleetd"`)
			s.fail(w, r, http.StatusUnauthorized, errors.New("no token, or not a valid one\nsend it as Authorization: Bearer TOKEN"))
			return
		}
		if !changes(r.Method) {
			rt.handle(w, r)
			return
		}
		if !s.audited(w, r, t) {
			return
		}
		sw := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		if role := cmp.Or(rt.role, Viewer); t.May(role) {
			rt.handle(sw, r.WithContext(context.WithValue(r.Context(), asker{}, t)))
		} else {
			s.metrics.refused.WithLabelValues("role").Inc()
			s.fail(sw, r, http.StatusForbidden, fmt.Errorf("this takes a token with the role %s\n%s has %v", role, t.Name, t.Roles))
		}
		if err := s.audit.write(s.record(r, t, sw.status)); err != nil {
			s.log.Error("cannot write to the audit log what came of a request", "who", t.Name, "path", r.URL.Path, "status", sw.status, "error", err)
		}
	}
}

// asker is the key of the token of who asks, in the context of what changes something.
type asker struct{}

// who asks for something that changes something.
func who(r *http.Request) Token {
	t, _ := r.Context().Value(asker{}).(Token)
	return t
}

// audited writes down who asks for what, before it is done; where that cannot be
// it answers so, and nothing is to be done.
func (s *Server) audited(w http.ResponseWriter, r *http.Request, t Token) bool {
	err := s.audit.write(s.record(r, t, 0))
	if err != nil {
		s.fail(w, r, http.StatusServiceUnavailable, fmt.Errorf("the audit log cannot be written, so nothing is done: %w", err))
	}
	return err == nil
}

// record is a line of the audit log about a request; status is that of the answer, 0
// before there is one.
func (s *Server) record(r *http.Request, t Token, status int) record {
	return record{At: s.now().UTC(), Who: t.Name, Roles: t.Roles, From: r.RemoteAddr, Method: r.Method, Path: r.URL.Path, Run: r.PathValue("run"), Status: status}
}

// identity is who asks: by a token in the header, or by the cookie of a browser
// that has shown one. shown is set where a header was there.
func (s *Server) identity(r *http.Request) (t Token, shown, ok bool) {
	if h := r.Header.Get("Authorization"); h != "" {
		secret, bearer := strings.CutPrefix(h, "Bearer ")
		t, ok = whose(s.tokens, secret)
		return t, true, ok && bearer
	}
	c, err := r.Cookie(s.cookie)
	if err != nil {
		return Token{}, false, false
	}
	t, ok = s.sessions.whose(c.Value)
	return t, false, ok
}

func changes(method string) bool { return method != http.MethodGet && method != http.MethodHead }

// wantsPage reports whether a browser asks, which shows a page.
func wantsPage(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}

// record is a line of the audit log: who asked for what that changes something, and,
// in a second line, what the answer was.
type record struct {
	At     time.Time `json:"at"`
	Who    string    `json:"who"`
	Roles  []Role    `json:"roles"`
	From   string    `json:"from"`
	Method string    `json:"method"`
	Path   string    `json:"path"`
	Run    string    `json:"run,omitempty"`
	Status int       `json:"status,omitempty"`
}

// auditLog is a file of JSON lines. The first line about a request is on the disk
// before it is done.
type auditLog struct {
	mu   sync.Mutex
	file string
}

func newAuditLog(dir string) *auditLog { return &auditLog{file: filepath.Join(dir, "audit.log")} }

func (a *auditLog) write(r record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	// Opened each time: who rotates the file need not tell us.
	f, err := os.OpenFile(a.file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Sync(), f.Close())
}
