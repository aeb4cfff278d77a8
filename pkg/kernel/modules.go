package kernel

import (
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// Modules returns the modules of this package by their names, on this connection.
func Modules(remote node.Remote) map[string]rollout.Module {
	return map[string]rollout.Module{
		"fleetd.kernel.preflight":  preflight{remote},
		"fleetd.kernel.stage":      stage{remote},
		"fleetd.kernel.package":    install{remote},
		"fleetd.kernel.trial_boot": trialBoot{remote},
		"fleetd.kernel.default":    makeDefault{remote},
	}
}
