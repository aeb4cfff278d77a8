package nodes

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// hostPackages are the Debian packages that building and running the lab needs, beyond a minimal Debian 12.
var hostPackages = []string{
	"qemu-system-x86", "qemu-utils", "mmdebstrap", "rpm", "createrepo-c", "grub-pc-bin", "grub-common",
	"grub2-common", "fdisk", "e2fsprogs", "zstd", "lz4", "busybox-static", "cpio", "gnupg",
	"iproute2", "kmod", "python3", "debian-archive-keyring",
}

// InstallHostPackages installs the Debian packages that the lab needs on this machine. It does nothing
// and says nothing when all are there; else it needs root.
func InstallHostPackages(ctx context.Context, log io.Writer) error {
	out, err := exec.CommandContext(ctx, "dpkg-query", append([]string{"-W", "-f", "${Package} ${db:Status-Status}\n"}, hostPackages...)...).Output()
	if err != nil && len(out) == 0 && ctx.Err() != nil {
		return ctx.Err()
	}
	installed := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		if name, status, _ := strings.Cut(strings.TrimSpace(line), " "); status == "installed" {
			installed[name] = true
		}
	}
	var missing []string
	for _, p := range hostPackages {
		if !installed[p] {
			missing = append(missing, p)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	list := strings.Join(missing, " ")
	if os.Geteuid() != 0 {
		return fmt.Errorf("cannot install the node lab's packages: not root\nrun as root: apt-get install --no-install-recommends %s", list)
	}
	if log != nil {
		fmt.Fprintf(log, "node lab: installing %s\n", list)
	}
	if err := run(ctx, "apt-get", "update", "-q"); err != nil {
		return fmt.Errorf("cannot read the package lists: %w", err)
	}
	args := append([]string{"DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-q", "-y", "--no-install-recommends"}, missing...)
	if err := run(ctx, "env", args...); err != nil {
		return fmt.Errorf("cannot install the node lab's packages: %w", err)
	}
	return nil
}
