package cluster

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/fleetd/fleetd/pkg/sshexec"
)

// bootIDs stands in for SSH: it answers the one command that this package runs
// on a node.
type bootIDs struct {
	mu   sync.Mutex
	ids  map[string]string
	err  error
	runs int
}

func (b *bootIDs) Run(_ context.Context, host string, c sshexec.Command) (sshexec.Result, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.runs++
	if got := strings.Join(c.Argv, " "); got != "cat /proc/sys/kernel/random/boot_id" {
		return sshexec.Result{}, fmt.Errorf("unexpected command %q", got)
	}
	if b.err != nil {
		return sshexec.Result{}, b.err
	}
	return sshexec.Result{Stdout: []byte(b.ids[host] + "\n")}, nil
}
