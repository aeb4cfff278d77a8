package boot

import (
	"fmt"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// flushScript puts what was written to /boot where GRUB finds it, which reads the
// disk and replays no journal. sync leaves new metadata in the log of XFS and
// ext4; freezing the file system empties it (fsfreeze(8); dracut does so for an
// initramfs). Where somebody else has frozen it, sync has to do. In a session of its
// own nothing kills what is to thaw it. The root file system is not frozen: the
// programs that are to thaw it lie there. EL7's sync (coreutils 8.22) knows no -f and
// takes all file systems.
//
// Where entries stand in grub.cfg, it ends with 65 if grubby left one that GRUB
// cannot parse.
const flushScript = `boot=$root/boot cfg=$root/etc/grub2.cfg
export boot
sync -f "$boot" "$boot/grub2/grubenv" 2>/dev/null || sync || exit
while read -r device point type rest; do
	case $point,$type in
	"$boot",xfs|"$boot",ext[34]) setsid sh -c 'fsfreeze -f "$boot" || exit 0; fsfreeze -u "$boot"' || exit ;;
	esac
done <"$root/proc/mounts"
[ ! -d "$root/sys/firmware/efi" ] || cfg=$root/etc/grub2-efi.cfg
[ ! -d "$boot/loader/entries" ] && [ -e "$cfg" ] && command -v grub2-script-check >/dev/null || exit 0
grub2-script-check "$cfg" || exit 65`

// Flush is to be called after each write to /boot.
func (l Loader) Flush() error {
	res, err := l.remote.Run(l.ctx, l.step.Host, sshexec.Command{
		Script: flushScript, Become: l.step.Become, Timeout: 2 * time.Minute, Env: map[string]string{"LC_ALL": "C", "root": ""},
	})
	switch {
	case err != nil || res.OK():
		return err
	case res.ExitStatus == 65:
		return &rollout.Problem{
			Message: fmt.Sprintf("grubby left a grub.cfg on %s that GRUB cannot read: %s", l.step.Host, res.Said()),
			Hint:    fmt.Sprintf("on %s, before anybody reboots it: grub2-mkconfig -o $(readlink -f /etc/grub2.cfg), with UEFI $(readlink -f /etc/grub2-efi.cfg)", l.step.Host),
		}
	}
	return fmt.Errorf("cannot write /boot of %s out to its disk: %s", l.step.Host, res.Said())
}
