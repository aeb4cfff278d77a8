package server

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/fleetd/fleetd/pkg/compliance"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/view"
)

// metrics are what Prometheus is told. What it says of runs is read from the
// journal when it asks.
type metrics struct {
	requests *prometheus.CounterVec
	refused  *prometheus.CounterVec
	handler  http.Handler
}

func newMetrics(s *Server) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fleetd_http_requests_total", Help: "Requests that were answered."}, []string{"route", "code"}),
		refused:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fleetd_http_refused_total", Help: "Requests that were refused, by what was wrong: host, cross-site, token."}, []string{"reason"}),
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(m.requests, m.refused, lastRun{s.store}, lastReports{s.store}, journalSize{s.store}, toldMetrics{s.notifier}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "fleetd_http_streams", Help: "Pages and programs that follow a run now."}, func() float64 { return float64(s.streams.Load()) }))
	m.handler = promhttp.HandlerFor(reg, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
	return m
}

func (m *metrics) serve(w http.ResponseWriter, r *http.Request) { m.handler.ServeHTTP(w, r) }

// counted counts the answers of a route.
func (m *metrics) counted(route string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		sw := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		h(sw, r)
		m.requests.WithLabelValues(route, strconv.Itoa(sw.status)).Inc()
	}
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// lastRun tells of the last run of the journal.
type lastRun struct{ store *store }

var (
	statusDesc  = prometheus.NewDesc("fleetd_last_run_status", "1 for the status of the last run, 0 for the others.", []string{"status"}, nil)
	startedDesc = prometheus.NewDesc("fleetd_last_run_started_timestamp_seconds", "When the last run began, in Unix time.", nil, nil)
	hostsDesc   = prometheus.NewDesc("fleetd_last_run_hosts", "Hosts of the last run, by where they stand.", []string{"state"}, nil)
	changesDesc = prometheus.NewDesc("fleetd_last_run_changes", "Changes that the last run has made.", nil, nil)
)

func (lastRun) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{statusDesc, startedDesc, hostsDesc, changesDesc} {
		ch <- d
	}
}

// scrapeTime bounds what the journal may take to answer.
const scrapeTime = 10 * time.Second

func (c lastRun) Collect(ch chan<- prometheus.Metric) {
	ctx, stop := context.WithTimeout(context.Background(), scrapeTime)
	defer stop()
	rows, _, err := c.store.list(ctx, "", 1)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(statusDesc, err)
		return
	}
	if len(rows) == 0 || rows[0].Error != "" {
		return
	}
	f, err := c.store.follow(ctx, rows[0].ID)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(statusDesc, err)
		return
	}
	st := f.stands()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, status := range []rollout.RunStatus{rollout.Running, rollout.Halted, rollout.Interrupted, rollout.Done} {
		is := 0.0
		if st.Status == status {
			is = 1
		}
		gauge(statusDesc, is, string(status))
	}
	gauge(startedDesc, float64(st.Started.UnixMilli())/1000)
	gauge(changesDesc, float64(st.Made))
	for _, state := range view.HostStates() {
		gauge(hostsDesc, float64(st.Hosts[state]), string(state))
	}
}

// journalSize tells how large the journal is.
type journalSize struct{ store *store }

var (
	sizeDesc = prometheus.NewDesc("fleetd_journal_bytes", "Bytes that the file of the journal takes.", nil, nil)
	freeDesc = prometheus.NewDesc("fleetd_journal_free_bytes", "Bytes of the file of the journal that hold nothing, and are taken first by what comes.", nil, nil)
)

func (journalSize) Describe(ch chan<- *prometheus.Desc) {
	ch <- sizeDesc
	ch <- freeDesc
}

func (c journalSize) Collect(ch chan<- prometheus.Metric) {
	ctx, stop := context.WithTimeout(context.Background(), scrapeTime)
	defer stop()
	j, err := c.store.open()
	if err == nil && j == nil {
		return // there is none yet
	}
	var size, free int64
	if err == nil {
		size, free, err = j.Size(ctx)
	}
	if err != nil {
		ch <- prometheus.NewInvalidMetric(sizeDesc, err)
		return
	}
	ch <- prometheus.MustNewConstMetric(sizeDesc, prometheus.GaugeValue, float64(size))
	ch <- prometheus.MustNewConstMetric(freeDesc, prometheus.GaugeValue, float64(free))
}

// lastReports tells how fleets stand against their policies.
type lastReports struct{ store *store }

var (
	judgedDesc   = prometheus.NewDesc("fleetd_compliance_hosts", "Hosts of a fleet, by how they stand against its policies.", []string{"fleet", "of", "status"}, nil)
	kernelsDesc  = prometheus.NewDesc("fleetd_compliance_kernel_hosts", "Hosts of a fleet, by the kernel that they ran when it was looked at last; where it was not read, kernel is empty.", []string{"fleet", "of", "kernel"}, nil)
	judgedAtDesc = prometheus.NewDesc("fleetd_compliance_report_timestamp_seconds", "When the fleet was looked at last, in Unix time.", []string{"fleet", "of"}, nil)
)

func (lastReports) Describe(ch chan<- *prometheus.Desc) {
	ch <- judgedDesc
	ch <- kernelsDesc
	ch <- judgedAtDesc
}

func (c lastReports) Collect(ch chan<- prometheus.Metric) {
	ctx, stop := context.WithTimeout(context.Background(), scrapeTime)
	defer stop()
	all, err := c.store.standings(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(judgedDesc, err)
		return
	}
	valid := func(s string) string { return strings.ToValidUTF8(s, "\uFFFD") } // others are no labels
	for _, k := range all {
		fleet, of := valid(k.look.Fleet), valid(k.standing.Of)
		ch <- prometheus.MustNewConstMetric(judgedAtDesc, prometheus.GaugeValue, float64(k.look.At.UnixMilli())/1000, fleet, of)
		for _, status := range []compliance.Status{compliance.Compliant, compliance.Waived, compliance.Unknown, compliance.Drift} {
			ch <- prometheus.MustNewConstMetric(judgedDesc, prometheus.GaugeValue, float64(k.standing.Hosts[status]), fleet, of, string(status))
		}
		if n := len(k.kernels); n > 0 {
			for kernel, hosts := range k.kernels[n-1].Hosts {
				ch <- prometheus.MustNewConstMetric(kernelsDesc, prometheus.GaugeValue, float64(hosts), fleet, of, valid(kernel))
			}
		}
	}
}
