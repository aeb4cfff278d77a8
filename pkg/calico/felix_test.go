package calico

import (
	"context"
	"errors"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

const (
	testCA   = "-----BEGIN CERTIFICATE-----\n"
	felixOn  = "felix 4242@1000 14\npinned cali_v4_nat_fe3\nattached eth0\nlog x BPF enabled, starting BPF endpoint manager and map manager.\n"
	felixOff = "felix 4242@1000 0\n"
	// felixRefused is a kernel without BPF support: the pins are an earlier
	// Felix's.
	felixRefused = "felix 4242@2000 0\npinned cali_v4_nat_fe3\nlog x BPF dataplane mode enabled but not supported by the kernel.  Disabling BPF mode.\n"
)

// felixes stand in for SSH to the nodes: they answer the commands that this
// package runs. Each Felix does at once what FelixConfiguration says, unless the
// test has it say something else.
type felixes struct {
	mu sync.Mutex
	// says, if set, is what a host's Felix shows, "" if nothing special.
	says func(host string) string
	// deaf, if set, is what curl says on a host that does not reach an address.
	deaf func(host, address string) string
	// gone are the hosts that SSH does not reach.
	gone map[string]bool
	mode func() bool
	runs int
	// probes, if set, is what a host prints of its probes, "" if it is well; what was
	// asked of them is kept in asked.
	probes func(host string, c sshexec.Command) string
	asked  []string
}

func (h *felixes) Run(_ context.Context, host string, c sshexec.Command) (sshexec.Result, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.runs++
	out := felixOff
	switch {
	case h.gone[host]:
		return sshexec.Result{}, errors.New("cannot connect to " + host + ": connection refused")
	case c.Script == probeScript && strings.Contains(c.Env["ca"], testCA) && c.Env["host"] != "" && c.Env["port"] != "" && c.Timeout > 0:
		out = "answers\n"
		if h.deaf != nil && h.deaf(host, c.Env["host"]) != "" {
			out = h.deaf(host, c.Env["host"])
		}
	case strings.Contains(c.Script, "fleetd-probe"):
		out = h.probed(host, c)
	case c.Script != felixScript || !c.Become || c.Timeout == 0:
		return sshexec.Result{}, errors.New("unexpected command")
	case h.says != nil && h.says(host) != "":
		out = h.says(host)
	case h.mode():
		out = felixOn
	}
	return sshexec.Result{Stdout: []byte(out)}, nil
}

// probed stands in for the scripts of pkg/probe: every path answers, and has done so
// for a while. It shows no gap and none of kube-proxy's rules.
func (h *felixes) probed(host string, c sshexec.Command) string {
	do := "look"
	switch {
	case c.Env["paths"] != "":
		do = "start"
	case c.Env["stop"] != "":
		do = "stop"
	case c.Env["mark"] != "":
		do = "mark"
	}
	h.asked = append(h.asked, do+" "+host)
	if c.Become != (host != rollout.Localhost) {
		return "it became somebody else\n"
	}
	if h.probes != nil && h.probes(host, c) != "" {
		return h.probes(host, c)
	}
	return "at 100000 0.5\n" + dnsPath + "state 0 20 0 20 0 0 0 0 100000 100000 unseen\n"
}

const dnsPath = "path 0 ClusterIP dns-udp 10.96.0.10 53 - kube-system/kube-dns\n"

// deps are the fakes with a host for each of their Nodes.
func (f fakes) deps() Deps {
	f.ssh.mode = func() bool { return felixMode(f.Client) }
	return depsOf(f.Client, f.ssh)
}

// labDeps are a real API server's, whose nodes run nothing.
func labDeps(c *cluster.Client) Deps {
	return depsOf(c, &felixes{mode: func() bool { return felixMode(c) }})
}

func depsOf(c *cluster.Client, ssh *felixes) Deps {
	d := Deps{Client: c, Hosts: ssh, Nodes: map[string]cluster.HostRef{}}
	l, err := c.Kube.CoreV1().Nodes().List(context.Background(), metav1.ListOptions{})
	if err != nil {
		return d // a test of a server that does not answer
	}
	for _, n := range l.Items {
		d.Nodes["host-of-"+n.Name] = cluster.HostRef{NodeName: n.Name}
	}
	return d
}

func felixMode(c *cluster.Client) bool {
	u, err := c.Dynamic.Resource(felixconfigs).Get(context.Background(), defaultName, metav1.GetOptions{})
	if err != nil {
		return false
	}
	on, _, _ := unstructured.NestedBool(u.Object, "spec", "bpfEnabled")
	return on
}
