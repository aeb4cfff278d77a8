package server

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"html/template"
	"io"
	"iter"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/compliance"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/view"
	"github.com/fleetd/fleetd/pkg/words"
)

//go:embed web
var web embed.FS

// pages are the templates, and the files that they name.
type pages struct {
	templates *template.Template
	// version is the sum of the files: a browser keeps each for as long as it is
	// this one.
	version string
}

func newPages() (*pages, error) {
	p := &pages{}
	sum := sha256.New()
	for _, name := range []string{"style.css", "page.js"} {
		raw, err := web.ReadFile("web/" + name)
		if err != nil {
			return nil, err
		}
		sum.Write(raw)
	}
	p.version = hex.EncodeToString(sum.Sum(nil))[:12]
	var err error
	p.templates, err = template.New("").Funcs(functions).ParseFS(web, "web/*.html")
	return p, err
}

// write answers with a page.
func (p *pages) write(w http.ResponseWriter, status int, name string, data pageData) {
	var b bytes.Buffer
	if err := p.templates.ExecuteTemplate(&b, name, data); err != nil {
		http.Error(w, "the page cannot be made: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = b.WriteTo(w) // who asked may be gone
}

// pageData is what every page gets.
type pageData struct {
	Title   string
	Who     *Token // nil: nobody is logged in
	Assets  string
	Version string
	// Untold is what webhooks were not told.
	Untold []string
	Body   any
}

func (s *Server) page(r *http.Request, title string, body any) pageData {
	d := pageData{Title: title, Assets: s.pages.version, Version: s.version, Body: body}
	if t, _, ok := s.identity(r); ok {
		d.Who, d.Untold = &t, s.notifier.untold(r.Context())
	}
	return d
}

// asset is a file that pages name.
func (s *Server) asset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	raw, err := web.ReadFile("web/" + name)
	kind := mime.TypeByExtension(path.Ext(name))
	if err != nil || strings.HasSuffix(name, ".html") {
		http.NotFound(w, r)
		return
	}
	if r.URL.Query().Get("v") == s.pages.version {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(raw) // who asked may be gone
}

// loginBody is the form for a token.
type loginBody struct {
	To    string
	Wrong bool
}

func (s *Server) loginForm(w http.ResponseWriter, r *http.Request) {
	s.pages.write(w, http.StatusOK, "login", s.page(r, "Log in", loginBody{To: local(r.URL.Query().Get("to"))}))
}

// login gives a browser that shows a token a session, always a new one.
func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		s.fail(w, r, http.StatusBadRequest, err)
		return
	}
	to := local(r.PostForm.Get("to"))
	t, ok := whose(s.tokens, strings.TrimSpace(r.PostForm.Get("token")))
	if !ok {
		s.metrics.refused.WithLabelValues("token").Inc()
		s.pages.write(w, http.StatusUnauthorized, "login", s.page(r, "Log in", loginBody{To: to, Wrong: true}))
		return
	}
	if !s.audited(w, r, t) {
		return
	}
	if c, err := r.Cookie(s.cookie); err == nil {
		s.sessions.end(c.Value)
	}
	s.setCookie(w, s.sessions.begin(t), int(sessionLasts.Seconds()))
	http.Redirect(w, r, to, http.StatusSeeOther)
}

func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(s.cookie); err == nil {
		s.sessions.end(c.Value)
	}
	s.setCookie(w, "", -1)
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

func (s *Server) setCookie(w http.ResponseWriter, value string, age int) {
	http.SetCookie(w, &http.Cookie{Name: s.cookie, Value: value, Path: "/", MaxAge: age, HttpOnly: true, Secure: s.secure, SameSite: http.SameSiteLaxMode})
}

// local is a path of this server; what leads elsewhere becomes the first page.
func local(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.Contains(to, `\`) {
		return "/"
	}
	return to
}

func urlQuery(s string) string { return url.QueryEscape(s) }

// rowsOfPage is how many runs are on a page.
const rowsOfPage = 50

func (s *Server) pageRuns(w http.ResponseWriter, r *http.Request) {
	rows, more, err := s.store.list(r.Context(), r.URL.Query().Get("before"), rowsOfPage)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	s.pages.write(w, http.StatusOK, "runs", s.page(r, "Runs", runList{rows, more}))
}

// runBody is a run on a page.
type runBody struct {
	runStanding
	// Filter is what the list of hosts is narrowed to, by name and state.
	Query string
	State view.HostState
	Found []view.HostOfRun
	More  int // found and not shown
}

// mostFound is how many hosts a list shows.
const mostFound = 200

func (s *Server) pageRun(w http.ResponseWriter, r *http.Request) {
	st, err := s.runStanding(r)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	b := runBody{runStanding: st, Query: strings.TrimSpace(r.URL.Query().Get("q")), State: view.HostState(r.URL.Query().Get("state"))}
	if b.Query != "" || b.State != "" {
		for _, h := range b.Each {
			if !strings.Contains(strings.ToLower(h.Host), strings.ToLower(b.Query)) || b.State != "" && h.State != b.State {
				continue
			}
			if len(b.Found) == mostFound {
				b.More++
				continue
			}
			b.Found = append(b.Found, h)
		}
	}
	s.pages.write(w, http.StatusOK, "run", s.page(r, "Run "+b.ID, b))
}

// live sends a page how its run stands, whenever that has changed: the parts that
// are texts as HTML, by id, and the state of each host as a letter, by play.
func (s *Server) live(w http.ResponseWriter, r *http.Request) {
	f, err := s.store.follow(r.Context(), r.PathValue("run"))
	if err != nil {
		s.failed(w, r, err)
		return
	}
	var sent []byte
	s.follow(w, r, func(st *stream) (bool, error) {
		if err := f.refresh(r.Context()); err != nil {
			return false, err
		}
		msg, err := f.message(s.pages.liveMessage)
		if err != nil {
			return false, err
		}
		if !bytes.Equal(msg, sent) {
			if err := st.write(msg); err != nil {
				return false, err
			}
			sent = msg
		}
		return true, nil
	})
}

// liveParts are the parts of a run's page that change, by their id.
var liveParts = []string{"head", "verdict", "lost", "work", "tasks", "next"}

// liveMessage is what a page is told of how its run stands.
func (p *pages) liveMessage(st view.Standing) ([]byte, error) {
	out := struct {
		// Live tells whether a process is at the run, which can be asked to stop.
		Live  bool              `json:"live"`
		Cells []string          `json:"cells"`
		Parts map[string]string `json:"parts"`
	}{Live: st.Status == rollout.Running, Parts: map[string]string{}}
	for _, name := range liveParts {
		var b bytes.Buffer
		if err := p.templates.ExecuteTemplate(&b, "run-"+name, runBody{runStanding: runStanding{Standing: st}}); err != nil {
			return nil, err
		}
		out.Parts[name] = strings.TrimSpace(b.String())
	}
	for _, play := range st.Plays {
		var b strings.Builder
		for _, batch := range play.Batches {
			for _, c := range batch.Hosts {
				b.WriteString(letter(c.State))
			}
		}
		out.Cells = append(out.Cells, b.String())
	}
	data, err := json.Marshal(out)
	return message(0, "standing", data), err
}

// letters stand for states in classes of cells, of which there are thousands.
var letters = map[view.HostState]string{
	view.HostLost: "l", view.HostWaiting: "w", view.HostWorking: "a", view.HostBetween: "b", view.HostAhead: "n", view.HostThrough: "t", view.HostIdle: "i",
}

func letter(s view.HostState) string { return letters[s] }

// textBody is a text as a terminal shows it.
type textBody struct {
	Run  string
	Host view.HostOfRun
	Text template.HTML
	Cut  string // a command that tells the rest, where it is cut
}

func (s *Server) pagePlan(w http.ResponseWriter, r *http.Request) {
	f, err := s.store.follow(r.Context(), r.PathValue("run"))
	if err != nil {
		s.failed(w, r, err)
		return
	}
	var b bytes.Buffer
	view.Plan(&b, view.Style{Colour: true}, f.plan())
	s.pages.write(w, http.StatusOK, "plan", s.page(r, "Plan of "+f.id, textBody{Run: f.id, Text: terminal(b.String())}))
}

// mostTale is how much of a host's story a page shows.
const mostTale = 2 << 20

// pageHost tells what happened to one host, with what its commands printed.
func (s *Server) pageHost(w http.ResponseWriter, r *http.Request) {
	f, err := s.store.follow(r.Context(), r.PathValue("run"))
	if err != nil {
		s.failed(w, r, err)
		return
	}
	name := r.PathValue("host")
	body := textBody{Run: f.id}
	found := false
	for _, h := range f.stands().Each {
		if h.Host == name {
			body.Host, found = h, true
		}
	}
	if !found {
		s.fail(w, r, http.StatusNotFound, fmt.Errorf("run %s has no host %s", f.id, clip(name)))
		return
	}
	tale := limited{most: mostTale}
	events := func(yield func(rollout.Event, error) bool) {
		err := f.journal.OfHost(r.Context(), f.id, name, func(e rollout.Event) error {
			if tale.full || !yield(e, nil) {
				return io.EOF
			}
			return nil
		})
		if err != nil && !errors.Is(err, io.EOF) {
			yield(rollout.Event{}, err)
		}
	}
	if err := view.HostTale(&tale, view.Style{Colour: true}, f.plan(), iter.Seq2[rollout.Event, error](events)); err != nil {
		s.failed(w, r, err)
		return
	}
	if tale.full {
		body.Cut = "fleetd runs show " + f.id + " --host " + words.Quote(name)
	}
	body.Text = terminal(tale.String())
	s.pages.write(w, http.StatusOK, "host", s.page(r, name+" in run "+f.id, body))
}

// limited keeps the beginning of what is written to it.
type limited struct {
	strings.Builder
	most int
	full bool
}

func (l *limited) Write(p []byte) (int, error) {
	if l.full = l.full || l.Len()+len(p) > l.most; !l.full {
		l.Builder.Write(p)
	}
	return len(p), nil
}

// functions are what templates call.
var functions = template.FuncMap{
	"letter":  letter,
	"word":    func(s view.HostState) string { return s.Word() },
	"states":  view.HostStates,
	"safe":    text.Printable,
	"time":    func(t time.Time) string { return t.Local().Format(time.DateTime) },
	"stamp":   view.Stamp,
	"rfc":     func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"took":    func(seconds float64) string { return view.Took(time.Duration(seconds * float64(time.Second))) },
	"segment": func(path string) string { return url.PathEscape(path) },
	"ranges":  view.HostRange,
	"lines":   func(s string) []string { return strings.Split(s, "\n") },
	"add":     func(a, b int) int { return a + b },
	"bar":     bar,
	"taskbar": func(t view.TaskStanding) template.HTML {
		return bar([]piece{{"t", t.Over}, {"l", t.Lost}, {"a", t.AtWork}, {"n", t.Left}}, "")
	},
	"hostbar": func(hosts map[view.HostState]int) template.HTML {
		var all []piece
		for _, s := range []view.HostState{view.HostThrough, view.HostIdle, view.HostLost, view.HostWaiting, view.HostWorking, view.HostBetween, view.HostAhead} {
			all = append(all, piece{letter(s), hosts[s]})
		}
		return bar(all, "wide")
	},
	"cells":  cells,
	"title":  judged.title,
	"anchor": judged.anchor,
	"statusbar": func(hosts map[compliance.Status]int) template.HTML {
		return bar([]piece{{"t", hosts[compliance.Compliant]}, {"i", hosts[compliance.Waived]}, {"w", hosts[compliance.Unknown]}, {"l", hosts[compliance.Drift]}}, "wide")
	},
	"kernelchart": kernelChart,
	"kernelrows": func(days []kernelDay) []kernelRow {
		rows, _ := kernelLegend(days)
		return rows
	},
	"small": func(p view.PlayStanding) bool {
		n := 0
		for _, b := range p.Batches {
			n += len(b.Hosts)
		}
		return n <= 150
	},
}

// cells are the hosts of a batch, each a link to its story; with named their names
// are in them, and local is what localhost is called. A template would take half a
// second for 5,000 of them.
func cells(run, local string, named bool, hosts []view.Cell) template.HTML {
	var b strings.Builder
	base := html.EscapeString("/runs/" + url.PathEscape(run) + "/hosts/")
	for i, c := range hosts {
		name := html.EscapeString(text.Printable(c.Host))
		b.WriteString(`<a class="` + letter(c.State) + `" href="` + base + html.EscapeString(url.PathEscape(c.Host)) + `" title="` + name + ": " + c.State.Word() + `"`)
		if i > 0 {
			b.WriteString(` tabindex="-1"`)
		}
		b.WriteString(">")
		switch {
		case named && c.Host == rollout.Localhost:
			b.WriteString(html.EscapeString(local))
		case named:
			b.WriteString(name)
		}
		b.WriteString("</a>")
	}
	return template.HTML(b.String()) //nolint:gosec // what a run brings is escaped above
}

// piece is a part of a bar: its class, and how long it is.
type piece struct {
	class string
	n     int
}

// bar is a bar of pieces as SVG. Whoever cannot see it reads the numbers beside it.
func bar(pieces []piece, class string) template.HTML {
	sum := 0
	for _, p := range pieces {
		sum += p.n
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="bar %s" viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true">`, class)
	at := 0
	for _, p := range pieces {
		if p.n > 0 {
			// What is there is seen, be it one of five thousand.
			from, to := at*1000/sum, (at+p.n)*1000/sum
			fmt.Fprintf(&b, `<rect class="%s" x="%d" y="0" width="%d" height="10"/>`, p.class, from, max(to-from, 4))
			at += p.n
		}
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) //nolint:gosec // numbers, and classes of this file
}
