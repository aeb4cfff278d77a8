package cluster

import (
	"context"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// Runner runs a command on a host by its inventory name, as node.Fleet does.
type Runner interface {
	Run(ctx context.Context, host string, c sshexec.Command) (sshexec.Result, error)
}

// Deps is what the modules work with.
type Deps struct {
	// Client is the cluster. It may be nil where plans are only made; then the
	// observers have said so already.
	Client *Client
	// Hosts reaches the nodes over SSH.
	Hosts Runner
}

// Modules returns the modules of this package by the names that tasks use.
func Modules(d Deps) map[string]rollout.Module {
	return map[string]rollout.Module{
		"fleetd.cluster.drain":                drainModule{d},
		"fleetd.cluster.ready":                readyModule{d},
		"fleetd.cluster.uncordon":             uncordonModule{d},
		"fleetd.calico.preflight":             preflightModule{d},
		"fleetd.calico.api_endpoint":          endpointModule{d},
		"fleetd.calico.kube_proxy":            kubeProxyModule{d},
		"fleetd.calico.dataplane":             dataplaneModule{d},
		"fleetd.calico.external_service_mode": serviceModeModule{d},
		"fleetd.calico.verify":                verifyModule{d},
	}
}

// readsCalico is what every module on localhost has to know.
func readsCalico() []rollout.Read { return []rollout.Read{{Section: Calico.Name()}} }
