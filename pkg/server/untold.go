package server

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/view"
)

// hookStanding is how a webhook stands.
type hookStanding struct {
	Name         string
	Sent, Failed uint64
	journal.Queue
	Failing *failure
}

// stands is how each webhook stands, and why nothing can be told.
func (n *notifier) stands(ctx context.Context) (out []hookStanding, problem *failure, err error) {
	n.mu.Lock()
	j, problem := n.journal, n.problem
	n.mu.Unlock()
	for _, h := range n.hooks {
		h.mu.Lock()
		st := hookStanding{Name: h.Name, Sent: h.sent, Failed: h.failed, Failing: h.failing}
		h.mu.Unlock()
		if j != nil {
			if st.Queue, err = j.Queue(ctx, h.Name); err != nil {
				return nil, problem, err
			}
		}
		out = append(out, st)
	}
	return out, problem, nil
}

// spokenOf is for how long a page tells that notices were dropped.
const spokenOf = 7 * 24 * time.Hour

// untold are lines for a page: why webhooks are not told what happens.
func (n *notifier) untold(ctx context.Context) (out []string) {
	all, problem, err := n.stands(ctx)
	switch {
	case err != nil:
		return []string{"It is not known how notifications stand: " + err.Error()}
	case problem != nil:
		out = append(out, "No notifications are sent since "+view.Stamp(problem.At)+": "+problem.Error)
	}
	for _, h := range all {
		if h.Failing != nil && h.Waiting > 0 {
			out = append(out, fmt.Sprintf("The webhook %s takes no notifications since %s: %s (%d wait)", h.Name, view.Stamp(h.Failing.At), h.Failing.Error, h.Waiting))
		}
		if h.Dropped > 0 && n.now().Sub(h.DroppedAt) < spokenOf {
			out = append(out, fmt.Sprintf("The webhook %s was never told of %s, the last dropped %s: %s", h.Name, count(int(h.Dropped), "event"), view.Stamp(h.DroppedAt), h.Why))
		}
	}
	return out
}

// toldMetrics tell how notifications stand.
type toldMetrics struct{ *notifier }

var (
	sentDesc    = prometheus.NewDesc("fleetd_notifications_sent_total", "Notifications that a webhook has taken since this server began.", []string{"webhook"}, nil)
	failedDesc  = prometheus.NewDesc("fleetd_notification_failures_total", "Tries to tell a webhook that have failed since this server began.", []string{"webhook"}, nil)
	waitingDesc = prometheus.NewDesc("fleetd_notifications_waiting", "Notifications that wait for a webhook to take them.", []string{"webhook"}, nil)
	droppedDesc = prometheus.NewDesc("fleetd_notifications_dropped_total", "Notifications that a webhook was never told, as the journal remembers.", []string{"webhook"}, nil)
	tellingDesc = prometheus.NewDesc("fleetd_notifications_sending", "1 if this server sends notifications, 0 if it cannot.", nil, nil)
)

func (toldMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{sentDesc, failedDesc, waitingDesc, droppedDesc, tellingDesc} {
		ch <- d
	}
}

func (m toldMetrics) Collect(ch chan<- prometheus.Metric) {
	ctx, stop := context.WithTimeout(context.Background(), scrapeTime)
	defer stop()
	all, problem, err := m.stands(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(waitingDesc, err)
		return
	}
	if len(all) == 0 {
		return
	}
	sending := 1.0
	if problem != nil {
		sending = 0
	}
	ch <- prometheus.MustNewConstMetric(tellingDesc, prometheus.GaugeValue, sending)
	for _, h := range all {
		for d, v := range map[*prometheus.Desc]float64{sentDesc: float64(h.Sent), failedDesc: float64(h.Failed), droppedDesc: float64(h.Dropped)} {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, h.Name)
		}
		ch <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(h.Waiting), h.Name)
	}
}
