package calico

import (
	"context"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/pkg/cluster/clustertest"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// refuses is what curl says on one node.
func refuses(host, _ string) string {
	if strings.HasSuffix(host, "el-0002") {
		return "curl: (7) Failed to connect to 10.0.0.3 port 6443: Connection refused\n"
	}
	return ""
}

// An address that one node does not reach is a stop when the plan is made, and
// when the step runs; asked for is what the play or the ConfigMap says.
func TestAddressIsProbedFromEveryNode(t *testing.T) {
	for name, args := range map[string]rollout.Args{"given": {"api_host": "10.0.0.3"}, "of the ConfigMap": {}} {
		t.Run(name, func(t *testing.T) {
			f := recorded(t, "iptables")
			if len(args) == 0 {
				endpointDone(t, f)
			}
			d := f.deps()
			mod := Modules(d)["fleetd.calico.preflight"]
			observe := func() rollout.State {
				t.Helper()
				st := rollout.State{}
				keys := map[string][]string{}
				for _, r := range mod.Reads(args) {
					keys[r.Section] = append(keys[r.Section], r.Key)
				}
				for _, o := range Observers(d) {
					if keys[o.Section()] == nil {
						continue // nobody asks it
					}
					so := o.Observe(context.Background(), map[string][]string{rollout.Localhost: keys[o.Section()]})[rollout.Localhost]
					if so.Err != nil {
						t.Fatal(so.Err)
					}
					st[o.Section()] = rollout.Encoded(so.Value)
				}
				return st
			}
			c, _, err := mod.Diff(rollout.Localhost, observe(), args)
			if err != nil || f.ssh.runs != 2 {
				t.Fatalf("%v, %d round trips for 2 nodes", err, f.ssh.runs)
			}
			f.ssh.deaf = refuses
			_, _, err = mod.Diff(rollout.Localhost, observe(), args)
			if err == nil {
				t.Fatal("planned")
			}
			p := rollout.AsProblem(err)
			if !strings.Contains(p.Message, `does not answer from 1 of 2 nodes: el-0002 ("curl: (7) Failed to connect`) || !strings.Contains(p.Hint, "certSANs") {
				t.Errorf("%+v", p)
			}
			m := &clustertest.Machine{}
			if o := m.Once(mod, rollout.Localhost, c); o.Kind != rollout.Waiting {
				t.Errorf("%+v", o)
			}
			m.Now += settle
			if o := m.Once(mod, rollout.Localhost, c); o.Kind != rollout.Failed || !strings.Contains(o.Message, "el-0002") {
				t.Errorf("%+v", o)
			}
		})
	}
	// On the way back nobody is asked.
	for _, r := range (preflightModule{}).Reads(rollout.Args{"linux_dataplane": "Iptables"}) {
		if r.Section == reach.Name() {
			t.Error("the way back probes an address")
		}
	}
}

// What nobody can dial is not handed to a node.
func TestBadAddressIsNotProbed(t *testing.T) {
	f := recorded(t, "iptables")
	d := f.deps()
	found := map[string][]string{}
	for _, key := range []string{"k8s;rm 6443", "127.0.0.1 6443", "10.0.0.3:6443 6443", ""} {
		if err := d.look(context.Background(), key, found); err != nil {
			t.Fatal(err)
		}
	}
	if f.ssh.runs > 0 || len(found) > 0 {
		t.Errorf("%d runs, %v", f.ssh.runs, found)
	}
}

// Without a cluster that is told, and nothing else happens.
func TestProbeWithoutACluster(t *testing.T) {
	for _, key := range []string{"", "10.0.0.3 6443"} {
		so := reachObserver{}.Observe(context.Background(), map[string][]string{rollout.Localhost: {key}})[rollout.Localhost]
		if so.Err == nil || !strings.Contains(so.Err.Error(), "no cluster is configured") {
			t.Errorf("%q: %+v", key, so)
		}
	}
}

// The script itself, with the curl of this machine and a real server.
func TestProbeScript(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("needs curl")
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // it tells of the handshakes that fail
	srv.StartTLS()
	defer srv.Close()
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	own := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}))
	run := func(host, port, ca string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		c := exec.CommandContext(ctx, "/bin/sh", "-c", probeScript)
		c.Env = append(c.Environ(), "LC_ALL=C", "host="+host, "port="+port, "ca="+ca)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if d := cmp.Diff("answers", run("127.0.0.1", port, own)); d != "" {
		t.Error(d)
	}
	for name, got := range map[string]string{
		"another name":      run("localhost", port, own),
		"another authority": run("127.0.0.1", port, ""),
		"nobody there":      run("127.0.0.1", "1", own),
	} {
		if !strings.HasPrefix(got, "curl: (") {
			t.Errorf("%s: %q", name, got)
		}
	}
}
