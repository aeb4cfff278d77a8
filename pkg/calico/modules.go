package calico

import (
	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// Deps is what the modules work with.
type Deps struct {
	// Client is the cluster. It may be nil where plans are only made; then the
	// observer has said so already.
	Client *cluster.Client
	// Hosts reaches the nodes over SSH, and Nodes says which host is which Node.
	Hosts cluster.Runner
	Nodes map[string]cluster.HostRef
}

// Modules returns the modules of this package by the names that tasks use.
func Modules(d Deps) map[string]rollout.Module {
	return map[string]rollout.Module{
		"fleetd.calico.preflight":             preflightModule{d},
		"fleetd.calico.probe":                 probeModule{d},
		"fleetd.calico.api_endpoint":          endpointModule{d},
		"fleetd.calico.kube_proxy":            kubeProxyModule{d},
		"fleetd.calico.dataplane":             dataplaneModule{d},
		"fleetd.calico.external_service_mode": serviceModeModule{d},
		"fleetd.calico.verify":                verifyModule{d},
	}
}

// readsCalico is what every module on localhost has to know.
func readsCalico() []rollout.Read { return []rollout.Read{{Section: Section.Name()}} }
