package calico

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// Automatic mode, from operator 1.40 on, is two fields of the Installation. With
// bpfNetworkBootstrap the operator finds the API server by the endpoints of the
// kubernetes service; with kubeProxyManagement it keeps kube-proxy off the nodes by
// a node selector of its own, from bpfEnabled on: about 10 ms later, whatever Felix
// does. So fleetd sets the one together with the data plane, and the other once every
// node is proven.
//
// Sources, in the operator: pkg/controller/utils (BPFBootstrapRequirements: no
// ConfigMap, linuxDataplane BPF); pkg/controller/kubeproxy goes by status.computed,
// puts its selector on the DaemonSet kube-proxy while bpfEnabled is true and takes it
// off while that is false, and touches nothing while kubeProxyManagement is not
// Enabled.
const (
	bootstrapField  = "bpfNetworkBootstrap"
	managementField = "kubeProxyManagement"
	// kubeProxyStatus is the TigeraStatus of the operator's hand on kube-proxy.
	kubeProxyStatus = "kubeproxy-monitor"
	// managedProxy is the one DaemonSet that the operator manages.
	managedProxy = "kube-proxy"
)

// setting is a field of the Installation's calicoNetwork before and after a step; ""
// = it is not set.
type setting struct {
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

func (s setting) changes() bool { return s.Before != s.After }

func (s setting) back() setting { return setting{Before: s.After, After: s.Before} }

// set puts the field into a merge patch, if it changes.
func (s setting) set(network map[string]any, name string) {
	if s.changes() {
		network[name] = orNull(s.After)
	}
}

// field is the change as a plan shows it; none if there is none.
func (s setting) field(name string) []rollout.Field {
	if !s.changes() {
		return nil
	}
	return []rollout.Field{{Name: "Installation " + name, Before: s.Before, After: s.After}}
}

// automaticFields are the two fields, as they go with a change of the data plane.
func (f Facts) automaticFields(want DataPlane, automatic bool) (bootstrap, management setting) {
	have := f.Installation
	bootstrap = setting{have.BPFNetworkBootstrap, have.BPFNetworkBootstrap}
	management = setting{have.KubeProxyManagement, have.KubeProxyManagement}
	switch {
	case want != BPF && have.Automatic():
		bootstrap.After = disabledSpec
	case want == BPF && automatic:
		bootstrap.After = enabledSpec
	}
	// Under the article's order kube-proxy is gone by then.
	if want == BPF && have.KubeProxyManagement == enabledSpec && len(f.taken()) == 0 {
		management.After = disabledSpec
	}
	return bootstrap, management
}

// automaticBlocked lists why the operator's automatic mode cannot be had.
func (f Facts) automaticBlocked() []*rollout.Problem {
	var out []*rollout.Problem
	for _, have := range []struct {
		name, version string
		major, minor  int
	}{{"Calico", f.CalicoVersion, 3, 31}, {"operator", f.OperatorVersion, 1, 40}} {
		major, minor, known := versionOf(have.version)
		if known && !f.Installation.Automatic() && (major < have.major || major == have.major && minor < have.minor) {
			out = append(out, &rollout.Problem{
				Message: fmt.Sprintf("cannot use automatic mode: it needs Calico 3.31 with operator 1.40, and this is %s %s", have.name, have.version),
				Hint:    "upgrade Calico first, or take the order safe (calico_dataplane_order), with calico_api_host",
			})
			break
		}
	}
	if f.Endpoint.Exists {
		out = append(out, f.twoEndpoints())
	}
	return out
}

// twoEndpoints is that the operator would be told of the API server twice.
func (f Facts) twoEndpoints() *rollout.Problem {
	return &rollout.Problem{
		Message: fmt.Sprintf("cannot move to eBPF: in automatic mode (bpfNetworkBootstrap Enabled) the operator refuses to go on while the ConfigMap %s/%s exists", operatorNamespace, endpointName),
		Hint:    fmt.Sprintf("decide for one: kubectl -n %s delete configmap %s, or the order safe with bpfNetworkBootstrap Disabled", operatorNamespace, endpointName),
	}
}

// endpointBesides is that the play would tell the operator what it finds by itself.
func (f Facts) endpointBesides() *rollout.Problem {
	return &rollout.Problem{
		Message: "cannot set the API server's address: in automatic mode (bpfNetworkBootstrap Enabled) the operator finds it by itself, and calls itself degraded when the ConfigMap exists as well",
		Hint:    "remove calico_api_host from the inventory",
	}
}

// versionOf reads "v3.29.2"; what begins otherwise is not known.
func versionOf(text string) (major, minor int, known bool) {
	major, rest, ok := leadingNumber(strings.TrimPrefix(text, "v"))
	if !ok || !strings.HasPrefix(rest, ".") {
		return 0, 0, false
	}
	minor, _, known = leadingNumber(rest[1:])
	return major, minor, known
}

// handOver is the change that leaves kube-proxy to the operator.
func (f Facts) handOver(state string) (setting, []proxySelector, *rollout.Problem) {
	for _, k := range f.KubeProxies {
		if k.Name != managedProxy && k.differs(state) {
			return setting{}, nil, &rollout.Problem{
				Message: fmt.Sprintf("cannot leave kube-proxy to the operator: it manages the DaemonSet %s alone, and %s runs as well", managedProxy, k.Name),
				Hint:    "take the order safe (calico_dataplane_order), or take that DaemonSet away first",
			}
		}
	}
	return setting{f.Installation.KubeProxyManagement, enabledSpec}, []proxySelector{{Name: managedProxy, Label: operatorProxyLabel, After: "true"}}, nil
}

// takeOver is the change that takes kube-proxy back from the operator.
func (f Facts) takeOver() (setting, []proxySelector) {
	management := setting{f.Installation.KubeProxyManagement, f.Installation.KubeProxyManagement}
	if management.Before == enabledSpec {
		if !f.projectedBPF() {
			return management, nil // it brings kube-proxy back by itself
		}
		management.After = disabledSpec
	}
	var selectors []proxySelector
	for _, k := range f.KubeProxies {
		if v := k.NodeSelector[operatorProxyLabel]; v != "" {
			selectors = append(selectors, proxySelector{Name: k.Name, Label: operatorProxyLabel, Before: v})
		}
	}
	return management, selectors
}

// setManagement says who sees to kube-proxy.
func setManagement(ctx context.Context, c *cluster.Client, s setting) error {
	network := map[string]any{}
	s.set(network, managementField)
	body, err := json.Marshal(map[string]any{"spec": map[string]any{"calicoNetwork": network}})
	if err != nil {
		return fmt.Errorf("cannot encode a patch: %w", err)
	}
	_, err = c.Dynamic.Resource(installations).Patch(ctx, defaultName, types.MergePatchType, body, cluster.StrictPatch())
	return c.Explain(err, "change Installation %s", defaultName)
}
