package cluster

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fleetd/fleetd/pkg/cluster/clustertest"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// prometheus is one that answers as the test says, and counts how often it is asked.
func prometheus(t *testing.T, answer http.HandlerFunc) (string, *atomic.Int32) {
	t.Helper()
	asked := &atomic.Int32{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != alertsPath || r.Method != http.MethodGet {
			t.Errorf("asked for %s %s", r.Method, r.URL)
		}
		asked.Add(1)
		answer(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, asked
}

// alertsAre answers with alerts, given as "name state".
func alertsAre(alerts ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		var list []string
		for _, a := range alerts {
			name, state, _ := strings.Cut(a, " ")
			list = append(list, fmt.Sprintf(`{"labels":{"alertname":%q,"severity":"page"},"annotations":{},"state":%q,"activeAt":"2026-11-27T10:00:00Z","value":"1e+00"}`, name, state))
		}
		fmt.Fprintf(w, `{"status":"success","data":{"alerts":[%s]}}`, strings.Join(list, ","))
	}
}

// Alerts hold a drain before the node is touched, until they are gone or it is late.
func TestAlertsHoldADrain(t *testing.T) {
	var answer atomic.Value
	answer.Store(alertsAre("EtcdNoLeader firing", "Watchdog firing", "DiskFull pending", "DiskFull firing"))
	url, _ := prometheus(t, func(w http.ResponseWriter, r *http.Request) { answer.Load().(http.HandlerFunc)(w, r) })
	f := newFakes(t, aNode(nil), aPod("a", nil))
	f.evicting(func(string) error { return nil })
	drain, _, d, _ := drains(t, f, nil, rollout.Args{"prometheus_url": url + "/", "alert_filter_regexp": "^Watchdog$", "timeout": "3m"})
	if why := strings.Join(d.Reasons, "; "); !strings.Contains(why, url+` tells of alerts that do not match "^Watchdog$", or does not answer`) {
		t.Errorf("the plan says %q", why)
	}
	m := &clustertest.Machine{}
	held := `Node el-0002 is not drained yet: ` + url + ` tells of alerts: "DiskFull", "EtcdNoLeader"`
	if o := m.Once(drain, drained, d); o.Kind != rollout.Waiting || o.Message != held || o.After != askAgain {
		t.Errorf("%+v", o)
	}
	late := &clustertest.Machine{Now: 3 * time.Minute}
	if o := late.Once(drain, drained, d); o.Kind != rollout.Failed || !strings.Contains(o.Message, "EtcdNoLeader") || !strings.Contains(o.Hint, "was not touched") || len(f.writes()) > 0 {
		t.Errorf("%+v %q", o, f.writes())
	}
	answer.Store(alertsAre("Watchdog firing"))
	m.Now = 10 * time.Minute // another moment of the run
	m.Began = m.Now
	if o := m.Run(t, drain, drained, d); o.Kind != rollout.Changed {
		t.Errorf("%+v", o)
	}
}

// One that lies, is broken or away holds, and it is said why.
func TestPrometheusThatDoesNotAnswerHolds(t *testing.T) {
	away := httptest.NewServer(http.NotFoundHandler())
	away.Close()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"broken":     {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "\x1b[2Jno", 500) }, "500 Internal Server Error"},
		"login page": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>\x1b[2J") }, "no list of alerts"},
		"no list":    {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"status":"success","data":{}}`) }, "no list of alerts"},
		"null":       {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `null`) }, "no list of alerts"},
		"an error": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"status":"error","errorType":"x","error":"y","data":{"alerts":[]}}`)
		}, "no list of alerts"},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, `{"status":"success"`)
		}, "EOF"},
		"huge": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"status":"success","data":{"alerts":[]},"x":"`)
			chunk := strings.Repeat("a", 1<<20)
			for range 9 {
				fmt.Fprint(w, chunk)
			}
			fmt.Fprint(w, `"}`)
		}, "larger than 8 MiB"},
		"round in circles": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, "redirects"},
		"away":             {nil, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			url := away.URL
			if c.answer != nil {
				url, _ = prometheus(t, c.answer)
			}
			f := newFakes(t, aNode(nil), aPod("a", nil))
			drain, _, d, _ := drains(t, f, nil, rollout.Args{"prometheus_url": url, "timeout": "1m"})
			m := &clustertest.Machine{}
			o := m.Once(drain, drained, d)
			if o.Kind != rollout.Waiting || !strings.Contains(o.Message, "whether there are alerts is not known") || !strings.Contains(o.Message, c.want) || strings.Contains(o.Message, "\x1b") {
				t.Errorf("%+v", o)
			}
			m.Now = time.Minute
			if o := m.Once(drain, drained, d); o.Kind != rollout.Failed || len(f.writes()) > 0 {
				t.Errorf("%+v %q", o, f.writes())
			}
		})
	}
}

// One that says nothing holds up nobody who is told to stop.
func TestSlowPrometheusCanBeLeft(t *testing.T) {
	reached := make(chan struct{}, 2)
	url, _ := prometheus(t, func(_ http.ResponseWriter, r *http.Request) { reached <- struct{}{}; <-r.Context().Done() })
	book := newAlertBook()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 2)
	for range 2 { // the second waits for the first
		go func() { _, err := book.ask(ctx, url, 0); done <- err }()
	}
	<-reached
	stop()
	for range 2 {
		if err := <-done; err == nil {
			t.Error("no answer was taken for none")
		}
	}
	if len(book.answers) != 0 {
		t.Errorf("kept %v", book.answers)
	}
}

// A batch asks once in a while, not once per node.
func TestAlertsAreAskedOnceForABatch(t *testing.T) {
	url, asked := prometheus(t, alertsAre())
	book := newAlertBook()
	for i := range 250 {
		now := time.Duration(i) * 10 * time.Millisecond
		if _, err := book.ask(t.Context(), url, now); err != nil {
			t.Fatal(err)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	if _, err := book.ask(t.Context(), url, askAgain); err != nil || asked.Load() != 2 {
		t.Errorf("%v, asked %d times: an old answer is none", err, asked.Load())
	}
}

// Which alerts hold, whatever they are called.
func TestWhichAlertsHold(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		name := rapid.String().Draw(rt, "name")
		state := rapid.SampledFrom([]string{"pending", "firing", "", "FIRING"}).Draw(rt, "state")
		o := AlertOptions{Filter: rapid.SampledFrom([]string{"", "a", "^b"}).Draw(rt, "filter"), FiringOnly: rapid.Bool().Draw(rt, "firing only")}
		matches := o.Filter == "a" && strings.Contains(name, "a") || o.Filter == "^b" && strings.HasPrefix(name, "b")
		o.MatchOnly = o.Filter != "" && rapid.Bool().Draw(rt, "match only")
		want := matches == o.MatchOnly && !(o.FiringOnly && state == "pending")
		got, err := o.holding([]alert{{Labels: map[string]string{"alertname": name}, State: state}})
		if err != nil || (len(got) == 1) != want {
			rt.Errorf("%+v %q %s: %q, %v", o, name, state, got, err)
		}
		for _, shown := range got {
			if strings.ContainsFunc(shown, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x9b }) {
				rt.Errorf("shown raw: %q", shown)
			}
		}
	})
}

func TestAlertOptionsAreChecked(t *testing.T) {
	f := newFakes(t, aNode(nil))
	drain := Modules(Deps{Client: f.Client})["fleetd.cluster.drain"]
	for want, args := range map[string]rollout.Args{
		"not a URL":                           {"prometheus_url": "prometheus:9090"},
		"not a URL such":                      {"prometheus_url": "http://p:9090/?x=y"},
		"holds a user":                        {"prometheus_url": "http://me:secret@p:9090"},
		"without prometheus_url":              {"alert_filter_regexp": "x"},
		"without alert_filter_regexp":         {"prometheus_url": "http://p:9090", "alert_filter_match_only": true},
		"not a regular expression":            {"prometheus_url": "http://p:9090", "alert_filter_regexp": "("},
		"alert_firing_only is maybe, not a b": {"prometheus_url": "http://p:9090", "alert_firing_only": "maybe"},
	} {
		_, _, err := drain.Diff(drained, clustertest.State(t, clustertest.With(Kubernetes, Node{Name: drained})), args)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func FuzzParseAlerts(f *testing.F) {
	f.Add([]byte(`{"status":"success","data":{"alerts":[{"labels":{"alertname":"A"},"state":"firing"}]}}`))
	f.Add([]byte(`{"status":"success","data":{"alerts":null}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		alerts, err := parseAlerts(body)
		if err != nil {
			return
		}
		names, err := AlertOptions{}.holding(alerts)
		if err != nil || len(alerts) > 0 && len(names) == 0 {
			t.Errorf("%d alerts hold nothing: %v", len(alerts), err)
		}
	})
}
