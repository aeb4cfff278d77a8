package module_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/module"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// step is what a module is to do with these arguments.
func step(t *testing.T, m rollout.Module, args rollout.Args) rollout.Step {
	t.Helper()
	change, _, err := m.Diff("a", nil, args)
	if err != nil {
		t.Fatal(err)
	}
	return rollout.Step{Host: "a", Change: change, Attempt: 1, SoFar: map[string]string{}}
}

// until calls Do as the engine does, with a clock that only the module's own waits
// move, until it is over or has waited so often.
func until(t *testing.T, m rollout.Module, s rollout.Step, most int) (rollout.Outcome, time.Duration) {
	t.Helper()
	for range most {
		o := m.Do(t.Context(), s)
		if o.Final() {
			return o, s.Now
		}
		s.Now += o.After
		for k, v := range o.Notes {
			s.SoFar[k] = v
		}
	}
	t.Fatal("it never ends")
	return rollout.Outcome{}, 0
}

// A port that answers, and what it says.
func TestWaitForAPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("220 \x1b[31mready\xff\r\n"))
			c.Close()
		}
	}()
	port := int64(l.Addr().(*net.TCPAddr).Port)
	m := module.Modules(local{t.TempDir()})["ansible.builtin.wait_for"]
	o, _ := until(t, m, step(t, m, rollout.Args{"port": port}), 3)
	if o.Kind != rollout.Unchanged {
		t.Errorf("a port that answers: %+v", o)
	}
	o, _ = until(t, m, step(t, m, rollout.Args{"port": port, "search_regex": `2(\d+).*(?P<what>ready)`}), 3)
	var r struct {
		Groups []string          `json:"match_groups"`
		Named  map[string]string `json:"match_groupdict"`
	}
	if err := json.Unmarshal(o.Result, &r); err != nil || len(r.Groups) != 2 || r.Groups[0] != "20" || r.Named["what"] != "ready" {
		t.Errorf("what it says: %+v, %v", o, err)
	}
	o, waited := until(t, m, step(t, m, rollout.Args{"port": port, "search_regex": "never", "timeout": int64(3)}), 10)
	if o.Kind != rollout.Failed || !strings.Contains(o.Message, "Timeout when waiting for search string never in 127.0.0.1") || waited != 3*time.Second {
		t.Errorf("what it does not say, after %v: %+v", waited, o)
	}
	o, waited = until(t, m, step(t, m, rollout.Args{"port": port, "state": "stopped", "timeout": int64(2)}), 10)
	if o.Kind != rollout.Failed || waited != 2*time.Second {
		t.Errorf("a port that stays, after %v: %+v", waited, o)
	}
}

// away is a host that cannot be reached for some calls.
type away struct{ calls int }

func (*away) Forget(string) {}

func (a *away) Run(context.Context, string, sshexec.Command) (sshexec.Result, error) {
	if a.calls--; a.calls >= 0 {
		return sshexec.Result{}, errors.New("connection refused")
	}
	return sshexec.Result{Stdout: []byte("pong\n")}, nil
}

func TestWaitForConnection(t *testing.T) {
	m := module.Modules(&away{calls: 3})["ansible.builtin.wait_for_connection"]
	o, waited := until(t, m, step(t, m, rollout.Args{"delay": int64(5), "sleep": int64(2)}), 10)
	if o.Kind != rollout.Unchanged || waited != 11*time.Second {
		t.Errorf("after %v: %+v", waited, o)
	}
	m = module.Modules(&away{calls: 1000})["ansible.builtin.wait_for_connection"]
	o, waited = until(t, m, step(t, m, rollout.Args{"timeout": int64(10)}), 20)
	if o.Kind != rollout.Failed || waited != 10*time.Second || !strings.Contains(string(o.Result), "timed out waiting for ping module test") {
		t.Errorf("after %v: %+v", waited, o)
	}
}

// What cannot be done is a problem in the plan, with the reason.
func TestRefusedArguments(t *testing.T) {
	all := module.Modules(local{t.TempDir()})
	for _, c := range []struct {
		module string
		args   rollout.Args
		why    string
	}{
		{"pause", rollout.Args{}, "a run goes on without anybody"},
		{"pause", rollout.Args{"prompt": "go on?"}, "a run goes on without anybody"},
		{"pause", rollout.Args{"seconds": int64(1), "minutes": int64(1)}, "not both"},
		{"wait_for", rollout.Args{"port": int64(1), "path": "/x"}, "port and path"},
		{"wait_for", rollout.Args{"path": "/x", "search_regex": "("}, "missing closing"},
		{"wait_for", rollout.Args{"port": int64(70000)}, "no port 70000"},
		{"copy", rollout.Args{"dest": "/x"}, "src (or content) is required"},
		{"copy", rollout.Args{"dest": "/x/", "content": "y"}, "can not use content with a dir"},
		{"copy", rollout.Args{"dest": "/x", "content": "y", "src": rollout.LocalFile{Name: "z"}}, "mutually exclusive"},
		{"copy", rollout.Args{"dest": "/x", "content": "y", "validate": "true"}, "must contain %s"},
		{"copy", rollout.Args{"dest": "/x", "content": "y", "mode": "preserve"}, "preserve is for files"},
		{"copy", rollout.Args{"dest": "/x", "content": "y", "mode": 6.5}, "is no mode"},
		{"copy", rollout.Args{"dest": "/x", "content": "y", "checksum": "00"}, "does not match the expected checksum"},
		{"copy", rollout.Args{"dest": "/x", "content": strings.Repeat("x", 4<<20+1)}, "4 MiB are the most"},
		{"file", rollout.Args{}, `needs the parameter "path"`},
		{"stat", rollout.Args{}, `needs the parameter "path"`},
		{"slurp", rollout.Args{}, `needs the parameter "src"`},
		{"script", rollout.Args{"cmd": rollout.LocalFile{Name: "x"}, "chdir": "y"}, "must be an absolute path"},
	} {
		_, _, err := all["ansible.builtin."+c.module].Diff("a", nil, c.args)
		var p *rollout.Problem
		if !errors.As(err, &p) || !strings.Contains(p.Message, c.why) {
			t.Errorf("%s %v: %v, want a problem with %q", c.module, c.args, err, c.why)
		}
	}
}
