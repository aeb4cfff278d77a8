package calico

import (
	"context"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fleetd/fleetd/pkg/cluster"
)

const (
	// hostPortsAnnotation notes on the Installation what hostPorts was before the
	// move to BPF: operators 1.28 to 1.30 turn it off for BPF and leave it so.
	hostPortsAnnotation = "fleetd.io/host-ports-before-bpf"
	// hostPortsUnset is the note of a field that was not set.
	hostPortsUnset = "unset"
	hostPortsOff   = "Disabled"
)

// hostPortsNote is the note of a value of hostPorts, "" = not set.
func hostPortsNote(value string) string {
	if value == "" {
		return hostPortsUnset
	}
	return value
}

// hostPortsOf is the value that a note stands for.
func hostPortsOf(note string) string {
	if note == hostPortsUnset {
		return ""
	}
	return note
}

// orNull is the value in a merge patch that sets a field, or takes it away.
func orNull(value string) any {
	if value == "" {
		return nil
	}
	return value
}

// installationPatch is a change of the Installation, in one write.
type installationPatch struct {
	// Network is the merge patch of spec.calicoNetwork.
	Network map[string]any
	// Noted is the value of hostPortsAnnotation; nil takes it away.
	Noted any
}

func patchInstallation(ctx context.Context, c *cluster.Client, p installationPatch) error {
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{hostPortsAnnotation: p.Noted}},
		"spec":     map[string]any{"calicoNetwork": p.Network},
	})
	if err != nil {
		return fmt.Errorf("cannot encode a patch: %w", err)
	}
	_, err = c.Dynamic.Resource(installations).Patch(ctx, defaultName, types.MergePatchType, body, cluster.StrictPatch())
	return c.Explain(err, "change Installation %s", defaultName)
}
