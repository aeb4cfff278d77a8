package fleet

import (
	"context"
	"fmt"
	"time"
)

// Fault is a way in which a machine's stand-in for Felix fails, from the next time
// that it begins. Those that last for a time take it from SetFault.
type Fault string

// The faults.
const (
	NoBPF        Fault = "no-bpf"      // the kernel has no BPF support: Felix says so and goes on without
	NeverReady   Fault = "never-ready" // at once: Felix is not ready. Only with a kubelet, which asks
	ReadinessDip Fault = "dip"         // for a time after it runs in BPF mode it is not ready
	SlowFelix    Fault = "slow"        // it takes its time before it does anything for the BPF mode
	ServiceGap   Fault = "gap"         // no Service answers for a time when it begins to carry them
)

// faults is the folder that the stand-in looks into.
const faults = "/var/lib/calico/standin"

// SetFault makes machine i's Felix fail.
func (f *Fleet) SetFault(ctx context.Context, i int, fault Fault, lasts time.Duration) error {
	if _, err := f.Nodes.Run(ctx, i, fmt.Sprintf("mkdir -p %[1]s && echo %[3]s > %[1]s/%[2]s", faults, fault, lasts)); err != nil {
		return fmt.Errorf("cannot set fault %s on %s: %w", fault, f.Nodes.Node(i).Name, err)
	}
	return nil
}

// ClearFaults ends what SetFault began.
func (f *Fleet) ClearFaults(ctx context.Context, i int) error {
	if _, err := f.Nodes.Run(ctx, i, "rm -rf "+faults); err != nil {
		return fmt.Errorf("cannot clear the faults of %s: %w", f.Nodes.Node(i).Name, err)
	}
	return nil
}
