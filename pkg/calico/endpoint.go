package calico

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/rollout"
)

const (
	present = "present"
	absent  = "absent"
	// defaultAPIPort is kubeadm's.
	defaultAPIPort = 6443
)

// endpointModule is fleetd.calico.api_endpoint: the address at which Calico
// reaches the API server without kube-proxy's help.
type endpointModule struct{ d Deps }

type endpointData struct {
	Before Endpoint `json:"before"`
	After  Endpoint `json:"after"`
	Stall  string   `json:"stall"`
}

func (endpointModule) About() rollout.About {
	return rollout.About{
		Params: rollout.Params{
			"host":    {Type: rollout.String, Help: "name or address of the API server that every node reaches without kube-proxy; not the ClusterIP"},
			"port":    {Type: rollout.Int, Help: "its TCP port (6443)"},
			"state":   {Type: rollout.String, Choices: []string{present, absent}, Help: "present"},
			"timeout": {Type: rollout.Duration, Help: "how long the roll of Calico's pods may stand still (10m)"},
		},
		Rule: "api-endpoint",
	}
}

func (endpointModule) Reads(rollout.Args) []rollout.Read { return readsCalico() }

func (m endpointModule) Diff(_ string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	state, err := cluster.ArgChoice(args, "state", present, present, absent)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	stall, err := cluster.ArgTimeout(args, defaultStall)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	f, err := Section.Get(before)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	if p := f.notOurs(); p != nil {
		return rollout.Change{}, nil, p
	}
	var want Endpoint
	if state == present {
		host := cluster.ArgString(args, "host", "")
		switch {
		case host == "" && f.Installation.Automatic():
			return cluster.NoOp("the operator finds the API server by itself (bpfNetworkBootstrap is Enabled)"), before, nil
		case host == "" && f.Endpoint.Exists:
			return cluster.NoOp("Calico reaches the API server at %s", f.Endpoint), before, nil
		}
		port, err := argPort(args, "port", defaultAPIPort)
		if err != nil {
			return rollout.Change{}, nil, err
		}
		want = Endpoint{Exists: true, Host: host, Port: port}
		if p := f.badEndpoint(want); p != nil {
			return rollout.Change{}, nil, p
		}
	}
	if !want.Exists && !f.Endpoint.Exists {
		// The variables of the pods say nothing: an operator without the ConfigMap
		// hands on those of its own pod.
		return cluster.NoOp("there is no ConfigMap %s", endpointName), before, nil
	}
	c := rollout.Change{
		Action: rollout.Update,
		Fields: []rollout.Field{{Name: "ConfigMap " + operatorNamespace + "/" + endpointName, Before: f.Endpoint.String(), After: want.String()}},
		Risks:  []string{"calico-node, typha and kube-controllers restart, a few at a time; pods keep their network meanwhile"},
		Data:   cluster.Pack(endpointData{Before: f.Endpoint, After: want, Stall: stall.String()}),
	}
	switch {
	case want == f.Endpoint && f.endpointTold(want):
		return cluster.NoOp("Calico reaches the API server at %s", want), before, nil
	case want == f.Endpoint:
		c.Summary = "wait until Calico's pods have taken over the API server's address " + want.String()
	case !want.Exists:
		c.Action, c.Summary = rollout.Delete, "let Calico reach the API server through the kubernetes service again"
		c.Reasons = []string{"kube-proxy serves the service's ClusterIP"}
	default:
		c.Summary = "tell Calico to reach the API server at " + want.String()
		c.Reasons = []string{"without kube-proxy the kubernetes service's ClusterIP is no way to the API server"}
		if !f.Endpoint.Exists {
			c.Action = rollout.Create
		}
		if _, err := netip.ParseAddr(want.Host); err != nil {
			c.Risks = append(c.Risks, fmt.Sprintf("%s is a name: the nodes must resolve it without the cluster's DNS", want.Host))
		}
	}
	switch {
	case want == f.Endpoint:
		c.Fields = nil
		c.Back = "leave the API server's address as it is"
	case f.Endpoint.Exists:
		c.Back = "tell Calico to reach the API server at " + cmp.Or(f.Endpoint.String(), "no address of its own") + " again"
	default:
		c.Back = "let Calico reach the API server through the kubernetes service again"
	}
	f.Endpoint = want
	return c, Section.With(before, f.told(want)), nil
}

// endpointTold reports whether the pods' templates carry the address.
func (f Facts) endpointTold(e Endpoint) bool {
	told := func(env map[string]string) bool {
		if e.Host == "" {
			// The operator may hand on the service's address of its own pod.
			return env[envHost] == "" || slices.Contains(f.ServiceIPs, env[envHost])
		}
		return env[envHost] == e.Host && env[envPort] == e.Port
	}
	if !told(f.CalicoNode.Env) {
		return false
	}
	for _, d := range f.Companions {
		if !told(d.Env) {
			return false
		}
	}
	return true
}

// told is the cluster after the pods have taken the address over.
func (f Facts) told(e Endpoint) Facts {
	env := map[string]string{}
	for k, v := range f.CalicoNode.Env {
		env[k] = v
	}
	delete(env, envHost)
	delete(env, envPort)
	if e.Exists {
		env[envHost], env[envPort] = e.Host, e.Port
	}
	f.CalicoNode.Env = env
	companions := make([]Deployment, len(f.Companions))
	for i, d := range f.Companions {
		d.Env = env
		companions[i] = d
	}
	f.Companions = companions
	return f
}

func (m endpointModule) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	return cluster.Act(s, func(c *cluster.Call, d endpointData) rollout.Outcome {
		return m.d.setEndpoint(ctx, c, d.After, d.Stall)
	})
}

func (m endpointModule) Undo(ctx context.Context, s rollout.Step) rollout.Outcome {
	return cluster.Act(s, func(c *cluster.Call, d endpointData) rollout.Outcome {
		return m.d.setEndpoint(ctx, c, d.Before, d.Stall)
	})
}

// setEndpoint brings the ConfigMap to e and watches the pods take it over.
func (d Deps) setEndpoint(ctx context.Context, c *cluster.Call, e Endpoint, stallText string) rollout.Outcome {
	stall, err := parseStall(stallText)
	if err != nil {
		return rollout.Fail(err)
	}
	f, err := read(ctx, d.Client, rollParts...)
	if err != nil {
		return c.Failed(err)
	}
	if next := f.nextEndpoint(e); f.Endpoint != next {
		if err := writeEndpoint(ctx, d.Client, f.Endpoint, next); err != nil {
			return c.Failed(err)
		}
		return rollout.WaitFor(cluster.PollEvery, "the operator is to take over the API server's address")
	}
	if done, why := f.endpointRolled(e); !done {
		return await(c, stall, roll{
			doing:    "Calico's pods take over the API server's address " + cmp.Or(e.String(), "of the kubernetes service"),
			now:      why,
			mark:     fmt.Sprintf("%t %d %d", f.endpointTold(e), f.CalicoNode.Updated, f.companionsUpdated()),
			degraded: f.degraded(),
			hint:     "see kubectl -n calico-system get pods -o wide; can every node reach that address?",
			laggards: func() string { return laggards(ctx, d.Client, f.CalicoNode) },
		})
	}
	if !e.Exists {
		return c.Done("Calico reaches the API server through the kubernetes service")
	}
	return c.Done("Calico reaches the API server at %s", e)
}

// nextEndpoint is what the ConfigMap has to be for the cluster to get to e. To
// forget an address takes two steps: operators before 1.40 keep the last one in
// memory when the ConfigMap is deleted, but take over an empty one.
func (f Facts) nextEndpoint(e Endpoint) Endpoint {
	if !e.Exists && f.Endpoint.Exists && !f.endpointTold(e) {
		return Endpoint{Exists: true}
	}
	return e
}

// endpointRolled reports whether all of Calico's pods run with the address.
func (f Facts) endpointRolled(e Endpoint) (bool, string) {
	switch {
	case (e.Exists || f.Endpoint.Exists) && !f.endpointTold(e):
		return false, "the operator has not taken over the API server's address yet"
	case !f.CalicoNode.Rolled():
		return false, f.CalicoNode.Progress()
	}
	for _, d := range f.Companions {
		if !d.Rolled() {
			return false, d.Progress()
		}
	}
	return true, ""
}

func (f Facts) companionsUpdated() (n int32) {
	for _, d := range f.Companions {
		n += d.Updated
	}
	return n
}

func writeEndpoint(ctx context.Context, c *cluster.Client, have, want Endpoint) error {
	cms := c.Kube.CoreV1().ConfigMaps(operatorNamespace)
	doing := fmt.Sprintf("ConfigMap %s/%s", operatorNamespace, endpointName)
	data := map[string]string{envHost: want.Host, envPort: want.Port}
	switch {
	case !want.Exists:
		err := cms.Delete(ctx, endpointName, metav1.DeleteOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return c.Explain(err, "delete %s", doing)
	case !have.Exists:
		_, err := cms.Create(ctx, &corev1.ConfigMap{
			TypeMeta:   metav1.TypeMeta{Kind: "ConfigMap", APIVersion: "v1"},
			ObjectMeta: metav1.ObjectMeta{Name: endpointName, Namespace: operatorNamespace},
			Data:       data,
		}, metav1.CreateOptions{FieldManager: cluster.FieldManager, FieldValidation: metav1.FieldValidationStrict})
		if apierrors.IsAlreadyExists(err) {
			return nil // seen and corrected by the next look
		}
		return c.Explain(err, "create %s", doing)
	}
	body, err := json.Marshal(map[string]any{"data": data})
	if err != nil {
		return fmt.Errorf("cannot encode a patch: %w", err)
	}
	_, err = cms.Patch(ctx, endpointName, types.MergePatchType, body, cluster.StrictPatch())
	return c.Explain(err, "change %s", doing)
}
