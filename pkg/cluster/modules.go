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
		"fleetd.cluster.drain":    drainModule{d},
		"fleetd.cluster.ready":    readyModule{d},
		"fleetd.cluster.uncordon": uncordonModule{d},
	}
}
