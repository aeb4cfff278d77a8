package cluster

import (
	"fmt"
	"strings"
)

// NonCalicoLabel marks the nodes that Calico's manifests leave alone; as a node
// selector of kube-proxy it keeps that off every other node.
const NonCalicoLabel = "non-calico"

func orWord(s, empty string) string {
	if s == "" {
		return empty
	}
	return s
}

// Few joins names for one line, and counts those that do not fit.
func Few(names []string) string {
	const most = 4
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
