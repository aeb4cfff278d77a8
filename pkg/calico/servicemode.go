package calico

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// serviceModeModule is fleetd.calico.external_service_mode: how replies to
// clients outside the cluster travel.
type serviceModeModule struct{ d Deps }

type serviceModeData struct {
	// Before is "" where it was not set.
	Before string `json:"before"`
	After  string `json:"after"`
}

const (
	dsr    = "DSR"
	tunnel = "Tunnel"
)

func (serviceModeModule) About() rollout.About {
	return rollout.About{
		Params: rollout.Params{"mode": {Type: rollout.String, Required: true, Choices: []string{dsr, tunnel}, Help: "DSR or Tunnel"}},
		Rule:   "external-service-mode",
	}
}

func (serviceModeModule) Reads(rollout.Args) []rollout.Read { return readsCalico() }

func (m serviceModeModule) Diff(_ string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	want, err := cluster.ArgChoice(args, "mode", "", dsr, tunnel)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	f, err := Section.Get(before)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	if !f.Felix.Exists {
		return rollout.Change{}, nil, &rollout.Problem{
			Message: "cannot set bpfExternalServiceMode: there is no FelixConfiguration default",
			Hint:    "is Calico installed and running? kubectl get felixconfigurations.crd.projectcalico.org or felixconfigurations.projectcalico.org",
		}
	}
	have := f.Felix.ExternalServiceMode
	if have == want || have == "" && want == tunnel {
		return cluster.NoOp("replies to clients outside go by %s already", want), before, nil
	}
	c := rollout.Change{
		Action: rollout.Update, Summary: "let replies to clients outside the cluster go by " + want,
		Fields: []rollout.Field{{Name: "FelixConfiguration bpfExternalServiceMode", Before: have, After: want}},
		Back:   "let replies to clients outside the cluster go by " + have + " again",
		Data:   cluster.Pack(serviceModeData{Before: have, After: want}),
	}
	if have == "" {
		c.Back = "take bpfExternalServiceMode out of FelixConfiguration again"
	}
	if want == dsr {
		c.Risks = []string{"the network must let a node answer with another node's address as the source; clients of NodePorts get no reply where it does not"}
	}
	c.Risks = append(c.Risks, "open connections from outside through another node may break")
	f.Felix.ExternalServiceMode = want
	return c, Section.With(before, f), nil
}

func (m serviceModeModule) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	return cluster.Act(s, func(c *cluster.Call, d serviceModeData) rollout.Outcome { return m.d.setServiceMode(ctx, c, d.After) })
}

func (m serviceModeModule) Undo(ctx context.Context, s rollout.Step) rollout.Outcome {
	return cluster.Act(s, func(c *cluster.Call, d serviceModeData) rollout.Outcome { return m.d.setServiceMode(ctx, c, d.Before) })
}

func (d Deps) setServiceMode(ctx context.Context, c *cluster.Call, mode string) rollout.Outcome {
	f, err := read(ctx, d.Client, readFelix)
	if err != nil {
		return c.Failed(err)
	}
	if f.Felix.ExternalServiceMode == mode {
		return c.Done("bpfExternalServiceMode is %s", cmp.Or(mode, "not set"))
	}
	var value any // null takes the field away
	if mode != "" {
		value = mode
	}
	body, err := json.Marshal(map[string]any{"spec": map[string]any{"bpfExternalServiceMode": value}})
	if err != nil {
		return rollout.Fail(fmt.Errorf("cannot encode a patch: %w", err))
	}
	u, err := d.Client.Dynamic.Resource(f.Felix.resource()).Patch(ctx, defaultName, types.MergePatchType, body, cluster.StrictPatch())
	if err != nil {
		return c.Failed(d.Client.Explain(err, "change FelixConfiguration %s", defaultName))
	}
	if got := str(u, "spec", "bpfExternalServiceMode"); got != mode {
		return rollout.Fail(fmt.Errorf("cannot set bpfExternalServiceMode: it reads back as %q", got))
	}
	return rollout.Did("bpfExternalServiceMode is %s", cmp.Or(mode, "not set"))
}
