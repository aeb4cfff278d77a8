package calico

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// reach is the section of localhost's state that holds from which nodes the API
// server does not answer, by the address that was asked for ([Endpoint.String]).
// The key of a read is "host port", or "" for the address of the ConfigMap.
var reach = rollout.NewSection[map[string][]string]("calico_api")

// rootCA is the ConfigMap, in every namespace, that holds the authority which
// pods trust the API server by.
const rootCA = "kube-root-ca.crt"

//go:embed probe.sh
var probeScript string

type reachObserver struct{ d Deps }

func (reachObserver) Section() string { return reach.Name() }

func (o reachObserver) Observe(ctx context.Context, keys map[string][]string) map[string]rollout.SectionObservation {
	out := make(map[string]rollout.SectionObservation, len(keys))
	for host, asked := range keys {
		found := map[string][]string{}
		var err error
		for _, key := range asked {
			if err = o.d.look(ctx, key, found); err != nil {
				break
			}
		}
		out[host] = cluster.Observation(found, err)
	}
	return out
}

// look asks for one address.
func (d Deps) look(ctx context.Context, key string, found map[string][]string) error {
	if d.Client == nil {
		return cluster.NotConfigured("ask the nodes for the API server")
	}
	host, port, given := strings.Cut(key, " ")
	e := Endpoint{Exists: given, Host: host, Port: port}
	if !given {
		f, err := read(ctx, d.Client, readEndpoint)
		if err != nil {
			return err
		}
		e = f.Endpoint
	}
	if !e.Exists || (Facts{}).badEndpoint(e) != nil {
		return nil // there is nothing to ask, and Diff says so
	}
	deaf, err := d.unreached(ctx, e)
	found[e.String()] = deaf
	return err
}

// unreached lists the nodes from which the API server does not answer at an
// address by TLS, with a certificate of the cluster's authority for that name,
// as "name (why)". Whatever it answers then is an answer. One round trip per
// node.
func (d Deps) unreached(ctx context.Context, e Endpoint) ([]string, error) {
	nodes, err := d.Client.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	cm, err := d.Client.Kube.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, rootCA, metav1.GetOptions{})
	if err != nil {
		return nil, d.Client.Explain(err, "read ConfigMap %s/%s, the authority of the API server's certificate", metav1.NamespaceSystem, rootCA)
	}
	var mu sync.Mutex
	deaf := []string{}
	env := map[string]string{"LC_ALL": "C", "host": e.Host, "port": e.Port, "ca": cm.Data["ca.crt"]}
	curl := sshexec.Command{Script: probeScript, Env: env, Timeout: askTimeout}
	d.ask(ctx, nodes, func(cluster.Node) sshexec.Command { return curl }, func(n cluster.Node, out, why string) {
		if said := strings.TrimSpace(out); why == "" && said != "answers" {
			why = fmt.Sprintf("%q", clipped(said))
		}
		if why != "" {
			mu.Lock()
			defer mu.Unlock()
			deaf = append(deaf, fmt.Sprintf("%s (%s)", n.Name, why))
		}
	})
	slices.Sort(deaf)
	return deaf, nil
}

// unreachedProblem is that nodes do not reach the API server, nil if all do.
func (f Facts) unreachedProblem(e Endpoint, deaf []string) *rollout.Problem {
	if len(deaf) == 0 {
		return nil
	}
	return &rollout.Problem{
		Message: fmt.Sprintf("cannot use %s as the API server's address: it does not answer from %d of %d nodes: %s", e, len(deaf), len(f.Nodes), cluster.Few(deaf)),
		Hint:    "every node has to reach it by TLS without kube-proxy, and the server's certificate has to name it (kubeadm: apiServer.certSANs)",
	}
}

// wayTo is the address that Calico will use: the one that the play sets, else
// that of the ConfigMap.
func (f Facts) wayTo(e Endpoint) Endpoint {
	if e.Exists {
		return e
	}
	return f.Endpoint
}
