package calico

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// What each module says of itself, in one view.
func TestAbout(t *testing.T) {
	guards, rules := map[string]rollout.Guards{}, map[string]string{}
	for name, m := range Modules(Deps{}) {
		a := m.About()
		if a.Guards != "" {
			guards[name] = a.Guards
		}
		if a.Rule != "" {
			rules[name] = a.Rule
		}
		for param, p := range a.Params {
			if p.Help == "" || p.Type == "" {
				t.Errorf("%s: parameter %s says too little", name, param)
			}
		}
	}
	if d := cmp.Diff(map[string]rollout.Guards{
		"fleetd.calico.preflight": rollout.Changes, "fleetd.calico.probe": rollout.Changes, "fleetd.calico.verify": rollout.Changes,
	}, guards); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]string{
		"fleetd.calico.api_endpoint": "api-endpoint", "fleetd.calico.dataplane": "data-plane",
		"fleetd.calico.kube_proxy": "kube-proxy", "fleetd.calico.external_service_mode": "external-service-mode",
	}, rules); d != "" {
		t.Error(d)
	}
}
