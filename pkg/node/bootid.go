package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/sshexec"
)

// Runner runs commands on hosts. A Remote does.
type Runner interface {
	Run(ctx context.Context, host string, c sshexec.Command) (sshexec.Result, error)
}

// BootID reads which boot the host is in: another one means another boot. It
// needs no become: a node on its way up may not let anybody be root yet. A node
// on its way down may take the command and never answer, hence the bound.
func BootID(ctx context.Context, r Runner, host string) (string, error) {
	res, err := r.Run(ctx, host, sshexec.Command{Argv: []string{"cat", sshexec.BootIDFile}, Timeout: 30 * time.Second})
	if err != nil {
		return "", fmt.Errorf("cannot read the boot_id of %s: %w", host, err)
	}
	id := strings.TrimSpace(string(res.Stdout))
	if !res.OK() || id == "" {
		return "", fmt.Errorf("cannot read the boot_id of %s: exit status %d: %s", host, res.ExitStatus, strings.TrimSpace(firstLine(string(res.Stderr))))
	}
	return id, nil
}
