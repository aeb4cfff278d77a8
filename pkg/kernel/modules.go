package kernel

import (
	"github.com/fleetd/fleetd/pkg/kernel/boot"
	"github.com/fleetd/fleetd/pkg/kernel/packages"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// Modules returns the modules of this package by their names, on this connection.
func Modules(remote node.Remote) map[string]rollout.Module {
	return map[string]rollout.Module{
		"fleetd.kernel.preflight":  preflight{remote},
		"fleetd.kernel.stage":      packages.Stage(remote),
		"fleetd.kernel.package":    packages.Install(remote),
		"fleetd.kernel.trial_boot": boot.Trial(remote),
		"fleetd.kernel.default":    boot.Default(remote),
	}
}
