package client

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/compliance"
	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/server"
	"github.com/fleetd/fleetd/pkg/view"
)

const runID = "20261127-021000-ab12"

// plan is one of a single step, of the fleet that the server has.
func plan(t testing.TB, summary string) *rollout.Plan {
	t.Helper()
	p := &rollout.Plan{Schema: rollout.PlanSchema, Fleetd: "test", Source: rollout.Source{Inventories: []string{"inventory.yaml"}, Playbook: "playbooks/site.yml"},
		Plays: []rollout.PlannedPlay{{Name: "Kernels", Strategy: rollout.Free, Batches: [][]string{{"n1"}}, Tasks: []rollout.PlannedTask{{
			Name: "Kernel package is installed", Module: "fleetd.kernel.package",
			Steps: map[string]rollout.PlannedStep{"n1": {Change: rollout.Change{Action: rollout.Create, Summary: summary}}},
		}}}}}
	if err := p.Seal(); err != nil {
		t.Fatal(err)
	}
	return p
}

func encoded(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// recordRun is a run under way, of this process.
func recordRun(t testing.TB, dir string) *journal.Writer {
	t.Helper()
	j, err := journal.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	lock, err := journal.Acquire(dir, runID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lock.Release() })
	w, err := j.Begin(t.Context(), runID, time.Now(), []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	add(t, w, rollout.Event{Seq: 1, Type: rollout.RunStarted, Plan: plan(t, "install kernel-ml"), Forks: 1, By: &rollout.Person{User: "anna", Host: "bastion1"}})
	return w
}

func add(t testing.TB, w *journal.Writer, events ...rollout.Event) {
	t.Helper()
	for i := range events {
		events[i].At = time.Now()
	}
	if err := w.Append(t.Context(), events); err != nil {
		t.Fatal(err)
	}
}

// serving is the real server of a state folder, on loopback, and a function that makes
// clients of it with a role.
func serving(t testing.TB, dir string) func(server.Role) *Client {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	times, err := server.ParseTimes("0 0 1 1 *", time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[server.Role]string{}
	cfg := server.Config{Listen: server.DefaultListen, State: dir, Fleets: []server.Fleet{{Name: "prod", Inventory: "inventory.yaml", Times: times}}}
	for _, r := range []server.Role{server.Viewer, server.Operator, server.Approver} {
		secret, token := server.NewToken("the-"+string(r), r)
		secrets[r], cfg.Tokens = secret, append(cfg.Tokens, token)
	}
	s, err := server.New(server.Options{
		Config: cfg, Address: l.Addr().String(), Now: time.Now, Log: slog.New(slog.DiscardHandler), Version: "test", Playbook: "playbooks/site.yml",
		Next:  func(string, *rollout.Run) view.Next { return view.Next{} },
		Mend:  func(string, *compliance.Report) view.ComplianceNext { return view.ComplianceNext{} },
		Look:  func(context.Context, server.Fleet) error { return errors.New("there is no fleet") },
		Start: func(server.Job) (<-chan error, error) { return nil, errors.New("nothing is to be started") },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil && !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return func(r server.Role) *Client {
		return to(t, "http://"+l.Addr().String(), secrets[r])
	}
}

func to(t testing.TB, url, token string) *Client {
	t.Helper()
	c, err := New(Options{URL: url, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.http.CloseIdleConnections)
	return c
}

// unkind is a client of a server that answers so.
func unkind(t testing.TB, answer http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	return to(t, s.URL, "token")
}
