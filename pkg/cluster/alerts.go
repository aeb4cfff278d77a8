package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// AlertOptions hold a drain as long as a Prometheus tells of alerts, as kured's
// options of the same names do.
type AlertOptions struct {
	// Prometheus is its URL; "": nobody is asked.
	Prometheus string `json:"prometheus,omitempty"`
	// Filter is a regular expression. Alerts whose name it matches hold nothing; with
	// MatchOnly, only they do.
	Filter    string `json:"alert_filter,omitempty"`
	MatchOnly bool   `json:"alert_filter_match_only,omitempty"`
	// FiringOnly leaves aside those that are pending.
	FiringOnly bool `json:"alert_firing_only,omitempty"`
}

const (
	// alertsPath lists the alerts that are pending or firing (Prometheus' HTTP API;
	// Thanos and Mimir serve it, too).
	alertsPath = "/api/v1/alerts"
	// alertsTimeout bounds one answer, alertsLargest its bytes.
	alertsTimeout = 10 * time.Second
	alertsLargest = 8 << 20
	// alertNameLongest bounds, in bytes, what is shown of an alert's name.
	alertNameLongest = 80
)

func alertOptions(a rollout.Args) (o AlertOptions, err error) {
	matchOnly, err1 := ArgBool(a, "alert_filter_match_only", false)
	firing, err2 := ArgBool(a, "alert_firing_only", false)
	o = AlertOptions{
		Prometheus: strings.TrimRight(ArgString(a, "prometheus_url", ""), "/"), Filter: ArgString(a, "alert_filter_regexp", ""), MatchOnly: matchOnly, FiringOnly: firing,
	}
	_, err3 := o.holding(nil)
	return o, errors.Join(err1, err2, err3, o.unfit())
}

// unfit is why nobody can be asked by these options.
func (o AlertOptions) unfit() error {
	u, err := url.Parse(o.Prometheus)
	switch {
	case o == (AlertOptions{}):
		return nil
	case o.Prometheus == "":
		return errors.New("alert_filter_regexp, alert_filter_match_only and alert_firing_only are of no use without prometheus_url")
	case err == nil && u.User != nil:
		return errors.New("prometheus_url holds a user: it would be in the plan and in the journal; give the URL of one that asks for none")
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("prometheus_url is %q, not a URL such as http://prometheus.example.org:9090", o.Prometheus)
	case o.MatchOnly && o.Filter == "":
		return errors.New("alert_filter_match_only is of no use without alert_filter_regexp")
	}
	return nil
}

// holding are the alerts, by name, that hold a drain, each once.
func (o AlertOptions) holding(alerts []alert) ([]string, error) {
	filter, err := regexp.Compile(o.Filter)
	if err != nil {
		return nil, fmt.Errorf("alert_filter_regexp is %q, not a regular expression: %w", o.Filter, err)
	}
	var out []string
	for _, a := range alerts {
		name := a.Labels["alertname"]
		matches := o.Filter != "" && filter.MatchString(name)
		if matches != o.MatchOnly || o.FiringOnly && a.State == "pending" {
			continue
		}
		if len(name) > alertNameLongest {
			name = name[:alertNameLongest] + "…"
		}
		if shown := fmt.Sprintf("%q", name); !slices.Contains(out, shown) {
			out = append(out, shown)
		}
	}
	slices.Sort(out)
	return out, nil
}

// text says who holds a drain, for the plan; "" if nobody does.
func (o AlertOptions) text() string {
	if o.Prometheus == "" {
		return ""
	}
	which := "alerts"
	switch {
	case o.MatchOnly:
		which = fmt.Sprintf("alerts that match %q", o.Filter)
	case o.Filter != "":
		which = fmt.Sprintf("alerts that do not match %q", o.Filter)
	}
	return fmt.Sprintf("it is not begun while %s tells of %s, or does not answer", o.Prometheus, which)
}

// alert is one of Prometheus' answer.
type alert struct {
	Labels map[string]string `json:"labels"`
	State  string            `json:"state"`
}

// alertBook keeps each Prometheus' last answer for a moment: a batch of 250 nodes
// asks once.
type alertBook struct {
	answers map[string]alertAnswer
	turn    chan struct{}
}

type alertAnswer struct {
	alerts []alert
	err    error
	// at is when it was given, by the run's clock.
	at time.Duration
}

func newAlertBook() *alertBook {
	return &alertBook{answers: map[string]alertAnswer{}, turn: make(chan struct{}, 1)}
}

// ask returns the alerts of a Prometheus, of at most askAgain ago.
func (b *alertBook) ask(ctx context.Context, prometheus string, now time.Duration) ([]alert, error) {
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	last, known := b.answers[prometheus]
	if age := now - last.at; !known || age < 0 || age >= askAgain {
		last = alertAnswer{at: now}
		last.alerts, last.err = readAlerts(ctx, prometheus)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx) // no answer to keep for others
		}
		b.answers[prometheus] = last
	}
	return last.alerts, last.err
}

// readAlerts asks a Prometheus. What is no list of alerts is an error: nothing is
// known then, which is not that all is well.
func readAlerts(ctx context.Context, prometheus string) ([]alert, error) {
	ctx, cancel := context.WithTimeout(ctx, alertsTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, prometheus+alertsPath, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // it was read, or is of no use
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, alertsLargest+1))
	if err != nil {
		return nil, err
	}
	return parseAlerts(body)
}

// parseAlerts reads Prometheus' answer.
func parseAlerts(body []byte) ([]alert, error) {
	if len(body) > alertsLargest {
		return nil, fmt.Errorf("its answer is larger than %d MiB", alertsLargest>>20)
	}
	var answer struct {
		Status string
		Data   struct{ Alerts *[]alert }
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("its answer is no list of alerts: %w", err)
	}
	if answer.Status != "success" || answer.Data.Alerts == nil {
		return nil, errors.New("its answer is no list of alerts")
	}
	return *answer.Data.Alerts, nil
}

// alerted is why a drain has to wait for alerts, "" if it has not.
func (d Deps) alerted(ctx context.Context, c *Call, o AlertOptions) (string, error) {
	if o.Prometheus == "" {
		return "", nil
	}
	alerts, err := d.Client.alertBook().ask(ctx, o.Prometheus, c.Now)
	if err != nil {
		return fmt.Sprintf("whether there are alerts is not known, %s cannot be asked: %v", o.Prometheus, err), nil
	}
	names, err := o.holding(alerts)
	if err != nil || len(names) == 0 {
		return "", err
	}
	return fmt.Sprintf("%s tells of alerts: %s", o.Prometheus, Few(names)), nil
}
