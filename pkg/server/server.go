package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fleetd/fleetd/pkg/compliance"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/view"
)

// Options are what a server is made with.
type Options struct {
	Config Config
	// Address is where it listens, if that is not as configured: port 0 is any, and a
	// socket may have been handed over.
	Address string
	// Next says what can be typed about a run.
	Next func(id string, r *rollout.Run) view.Next
	// Look looks at a fleet of the configuration, and writes a report into the journal.
	// It ends soon when the context does.
	Look func(context.Context, Fleet) error
	// Mend says what can be typed about a fleet of which a report is remembered; schedule
	// is the one that asked for the report, or "".
	Mend func(schedule string, r *compliance.Report) view.ComplianceNext
	// Start starts a fleetd that carries out an approved plan, or goes on with a run, and
	// that goes on when this process ends. When it has ended, the channel has what it said
	// last where that was an error, and is closed.
	Start func(Job) (ended <-chan error, err error)
	// Playbook is that of a fleet that names none.
	Playbook string
	// Now is the clock.
	Now func() time.Time
	// Log takes what concerns no request.
	Log *slog.Logger
	// Version is fleetd's.
	Version string
}

// Server answers requests. Run must be called for it to do so over the network.
type Server struct {
	address  string
	names    []string
	tokens   []Token
	cookie   string
	secure   bool // it is reached by TLS
	version  string
	now      func() time.Time
	log      *slog.Logger
	store    *store
	sessions *sessions
	audit    *auditLog
	metrics  *metrics
	pages    *pages
	look     func(context.Context, Fleet) error
	start    func(Job) (<-chan error, error)
	playbook string
	fleets   []*scheduled
	sources  sync.Map // the rollout.Source of plans that were proposed, by digest
	notifier *notifier
	streams  atomic.Int64
	patience time.Duration // for how long is waited for a run to hear what is asked of it
	stopping chan struct{} // closed when no stream is to go on
	handler  http.Handler
}

// New makes a server. The folder of the state has to be there.
func New(o Options) (*Server, error) {
	s := &Server{
		address: o.Address, names: namesOf(o.Config), tokens: o.Config.Tokens, cookie: "fleetd_session", version: o.Version,
		now: o.Now, log: o.Log, audit: newAuditLog(o.Config.State), stopping: make(chan struct{}), patience: 5 * time.Second, // it looks every second
		store: &store{dir: o.Config.State, now: o.Now, next: o.Next, mend: o.Mend},
	}
	if s.address == "" {
		s.address = o.Config.Listen
	}
	if missing := o.Config.lacks(s.address); len(missing) > 0 {
		return nil, fmt.Errorf("listening on %s, which others reach, needs %s in the configuration", s.address, strings.Join(missing, " and "))
	}
	if o.Config.Certificate != "" {
		// A browser takes a cookie of that name from this very host alone, by TLS.
		s.cookie, s.secure = "__Host-fleetd_session", true
	}
	s.look, s.start, s.playbook = o.Look, o.Start, o.Playbook
	for _, f := range o.Config.Fleets {
		s.fleets = append(s.fleets, &scheduled{Fleet: f})
	}
	var err error
	if s.notifier, err = newNotifier(o); err != nil {
		return nil, err
	}
	s.sessions = &sessions{now: o.Now, by: map[[32]byte]session{}}
	s.metrics = newMetrics(s)
	if s.pages, err = newPages(); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	for _, rt := range s.routes() {
		mux.HandleFunc(rt.pattern, s.metrics.counted(rt.pattern, s.admit(rt)))
	}
	s.handler = s.guard(mux)
	return s, nil
}

// routes are all that the server answers.
func (s *Server) routes() []route {
	return []route{
		{pattern: "GET /healthz", open: true, handle: s.healthz},
		{pattern: "GET /readyz", open: true, handle: s.readyz},
		{pattern: "GET /metrics", handle: s.metrics.serve},

		{pattern: "GET /api/v1/openapi.yaml", open: true, handle: s.openapi},
		{pattern: "GET /api/v1/runs", handle: s.apiRuns},
		{pattern: "GET /api/v1/runs/{run}", handle: s.apiRun},
		{pattern: "GET /api/v1/runs/{run}/hosts", handle: s.apiHosts},
		{pattern: "GET /api/v1/runs/{run}/events", handle: s.apiEvents},
		{pattern: "GET /api/v1/runs/{run}/plan", handle: s.apiPlan},

		{pattern: "POST /api/v1/runs/{run}/pause", role: Operator, handle: s.apiRequest(rollout.Pause)},
		{pattern: "POST /api/v1/runs/{run}/abort", role: Operator, handle: s.apiRequest(rollout.Abort)},
		{pattern: "POST /api/v1/runs/{run}/resume", role: Operator, handle: s.apiResume},

		{pattern: "GET /api/v1/proposals", handle: s.apiProposals},
		{pattern: "POST /api/v1/proposals", role: Operator, most: mostPlan, handle: s.apiPropose},
		{pattern: "GET /api/v1/proposals/{proposal}", handle: s.apiProposal},
		{pattern: "POST /api/v1/proposals/{proposal}/approve", role: Approver, handle: s.apiApprove},

		{pattern: "GET /api/v1/compliance", handle: s.apiCompliance},

		{pattern: "GET /login", open: true, handle: s.loginForm},
		{pattern: "POST /login", open: true, handle: s.login},
		{pattern: "POST /logout", handle: s.logout},
		{pattern: "GET /assets/{file}", open: true, handle: s.asset},
		{pattern: "GET /{$}", handle: s.pageRuns},
		{pattern: "GET /compliance", handle: s.pageCompliance},
		{pattern: "GET /proposals", handle: s.pageProposals},
		{pattern: "GET /proposals/{proposal}", handle: s.pageProposal},
		{pattern: "POST /proposals/{proposal}/approve", role: Approver, handle: s.pageApprove},
		{pattern: "GET /runs/{run}", handle: s.pageRun},
		{pattern: "GET /runs/{run}/live", handle: s.live},
		{pattern: "POST /runs/{run}/pause", role: Operator, handle: s.pageRequest(rollout.Pause)},
		{pattern: "POST /runs/{run}/abort", role: Operator, handle: s.pageRequest(rollout.Abort)},
		{pattern: "POST /runs/{run}/resume", role: Operator, handle: s.pageResume},
		{pattern: "GET /runs/{run}/plan", handle: s.pagePlan},
		{pattern: "GET /runs/{run}/hosts/{host}", handle: s.pageHost},
	}
}

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// TLS is how a server of that configuration speaks TLS; nil if it does not.
func (c Config) TLS() (*tls.Config, error) {
	if c.Certificate == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
	if err != nil {
		return nil, fmt.Errorf("cannot use the certificate %s with the key %s: %w", c.Certificate, c.Key, err)
	}
	out := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if c.ClientAuthority == "" {
		return out, nil
	}
	raw, err := os.ReadFile(c.ClientAuthority)
	if err != nil {
		return nil, fmt.Errorf("cannot read the authority of clients: %w", err)
	}
	out.ClientCAs, out.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !out.ClientCAs.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", c.ClientAuthority)
	}
	return out, nil
}

// The limits of a connection. A stream sets its own for each message.
const (
	headerTime  = 5 * time.Second
	requestTime = 15 * time.Second
	answerTime  = time.Minute
	idleTime    = 2 * time.Minute
	farewell    = 10 * time.Second
	mostHeaders = 16 << 10
)

// Run answers what comes to l, looks at fleets at their times and tells webhooks, until ctx is done.
// Requests that are being answered come to their end then.
func (s *Server) Run(ctx context.Context, l net.Listener) (err error) {
	h := &http.Server{
		Handler: s, ReadHeaderTimeout: headerTime, ReadTimeout: requestTime, WriteTimeout: answerTime, IdleTimeout: idleTime,
		MaxHeaderBytes: mostHeaders, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	looking, stopLooking := context.WithCancel(ctx)
	var looks sync.WaitGroup
	for _, f := range s.fleets {
		looks.Go(func() { s.keep(looking, f) })
	}
	looks.Go(func() {
		// The first who asks is not to wait for what many big runs have come to.
		if _, _, err := s.store.list(looking, "", rowsOfPage); err != nil && looking.Err() == nil {
			s.log.Warn("cannot read the runs yet", "error", err)
		}
	})
	looks.Go(func() { s.begin(looking) })
	looks.Go(func() { s.notifier.run(looking) })
	defer func() { // nobody reads any more
		stopLooking()
		looks.Wait()
		err = errors.Join(err, s.store.close())
	}()
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	close(s.stopping)
	end, stop := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer stop()
	err = h.Shutdown(end)
	if errors.Is(err, context.DeadlineExceeded) {
		err = h.Close() // somebody reads too slowly to be waited for
	}
	<-ended
	return err
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) { writeText(w, "ok\n") }

// readyz says whether what is asked can be answered: the journal can be read.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	if _, _, err := s.store.list(r.Context(), "", 1); err != nil {
		s.log.Warn("not ready", "error", err)
		http.Error(w, "the journal cannot be read", http.StatusServiceUnavailable)
		return
	}
	writeText(w, "ok\n")
}

func writeText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte(text)) // who asked may be gone
}
