package calico

import (
	"fmt"
	"strconv"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// argPort is a TCP port; 0 is refused.
func argPort(a rollout.Args, name string, absent int) (string, error) {
	n, err := cluster.ArgInt(a, name, absent)
	if err != nil {
		return "", err
	}
	if n < 1 || n > 65535 {
		return "", fmt.Errorf("%s is %d, not a TCP port", name, n)
	}
	return strconv.Itoa(n), nil
}
