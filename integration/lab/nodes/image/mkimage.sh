#!/bin/bash
# mkimage.sh EL ROOT.TAR OUT [PROGRAMS]: OUT/base.qcow2, the disk that every node of one flavour starts from.
#
# Needs mkrepo.sh's OUT/www and OUT/kernels.env, and root for chroot; no loop device, no mount. With PROGRAMS,
# the folder of mkkubernetes.sh, it is a node of Kubernetes.
# Disk: MBR with GRUB 2 in the gap before the first partition, /boot on a file system of its own, root.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); G=$here/guest
EL=$1 tarball=$2 out=$3 programs=${4:-}; . "$here/flavours.sh"; . "$out/kernels.env"
cd "$out"; rm -rf img boot; mkdir img; tar -C img -xf "$tarball"
R=$out/img lib=$R/usr/libexec/fleetd-lab
install -d -m 755 "$lib" "$R/etc/fleetd-lab" "$R/etc/kubelet-standin"

# Users. Keys come with each node's seed: the image holds none.
chroot "$R" groupadd wheel
chroot "$R" useradd -m -u 1000 -s /bin/bash -G wheel centos
chroot "$R" useradd -m -u 1001 -s /bin/bash ops
echo 'ops:lab-password' | chroot "$R" chpasswd -c SHA512 # yescrypt, the default, costs a second under emulation
echo 'centos ALL=(ALL) NOPASSWD:ALL' > "$R/etc/sudoers.d/centos"
echo 'ops ALL=(ALL) ALL' > "$R/etc/sudoers.d/ops"
chmod 440 "$R"/etc/sudoers.d/*
rm -f "$R"/etc/ssh/ssh_host_*
cat > "$R/etc/ssh/sshd_config.d/lab.conf" <<X
HostKey /etc/ssh/ssh_host_ed25519_key
# As in EL7's sshd: no sntrup761, which costs an emulated CPU most of a login.
KexAlgorithms curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,diffie-hellman-group14-sha256
UseDNS no
PasswordAuthentication no
Match User ops
	PasswordAuthentication yes
X

# Identity.
rm -f "$R/etc/os-release"
{ cat <<X
NAME="$NAME"
VERSION="$VERSION"
ID="$ID"
ID_LIKE="rhel fedora"
VERSION_ID="$VERSION_ID"
PRETTY_NAME="$NAME $VERSION stand-in on Debian 12"
X
[ $BLS = 0 ] || echo "PLATFORM_ID=\"platform:$EL\""; } > "$R/etc/os-release"
echo "$MACHINE_ID" > "$R/etc/machine-id"
echo '127.0.0.1 localhost' > "$R/etc/hosts"; echo node > "$R/etc/hostname"; : > "$R/etc/resolv.conf"
printf 'UUID=%s / ext4 defaults,noatime 0 0\nUUID=%s /boot ext4 defaults,noatime,noauto 0 0\n' $UUID $BOOT_UUID > "$R/etc/fstab"
install -m 755 "$G/node-identity" "$G/kubelet-standin" "$G/blscfg" "$lib/"
install -m 644 "$G/node-identity.service" "$G/kubelet-standin.service" "$R/etc/systemd/system/"
mkdir -p "$R/etc/systemd/system.conf.d" "$R/etc/systemd/journald.conf.d"
printf '[Manager]\nDefaultTimeoutStopSec=8s\nDefaultTimeoutStartSec=60s\n' > "$R/etc/systemd/system.conf.d/lab.conf"
printf '[Journal]\nStorage=volatile\nRuntimeMaxUse=8M\n' > "$R/etc/systemd/journald.conf.d/lab.conf"
chroot "$R" systemctl -q enable node-identity kubelet-standin ssh
if [ $BLS = 1 ]; then
  install -m 644 "$G/blscfg.service" "$R/etc/systemd/system/"; chroot "$R" systemctl -q enable blscfg
fi
# Under emulation a unit costs 0.1 to 2 s of every boot. The user database is complete, the journal is not
# kept, and node-identity loads the network driver and mounts /boot, so nothing waits for udev.
chroot "$R" systemctl -q mask systemd-networkd.socket systemd-networkd systemd-networkd-wait-online systemd-hwdb-update systemd-sysusers \
  systemd-tmpfiles-setup systemd-tmpfiles-setup-dev systemd-tmpfiles-clean.timer systemd-journal-flush systemd-journal-catalog-update \
  systemd-udevd systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udev-trigger systemd-update-utmp systemd-update-utmp-runlevel \
  systemd-random-seed systemd-binfmt proc-sys-fs-binfmt_misc.automount systemd-pstore dracut-shutdown kmod-static-nodes \
  dev-hugepages.mount dev-mqueue.mount sys-fs-fuse-connections.mount sys-kernel-config.mount modprobe@configfs modprobe@fuse modprobe@drm modprobe@dm_mod modprobe@loop \
  getty@tty1 serial-getty@ttyS0 apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap fstrim.timer 2>/dev/null
chroot "$R" systemctl -q set-default multi-user.target
rm -f "$R"/lib/systemd/system-generators/systemd-{bless-boot,cryptsetup,gpt-auto,hibernate-resume,integritysetup,rc-local,sysv,veritysetup}-generator
# dbus and logind start when somebody calls them.
rm -f "$R"/lib/systemd/system/multi-user.target.wants/{dbus,systemd-logind}.service "$R"/etc/systemd/system/multi-user.target.wants/{dbus,systemd-logind}.service
sed -i '/pam_motd\|pam_mail\|pam_selinux/d' "$R/etc/pam.d/sshd"
rm -rf "$R"/usr/lib/udev/hwdb.bin "$R"/usr/lib/udev/hwdb.d

# yum, rpm, repositories.
ln -s dnf-3 "$R/usr/bin/yum"
[ $BLS = 1 ] || rm -f "$R/usr/bin/dnf" # EL7 has only yum
mkdir -p "$R"/etc/{yum.repos.d,pki/rpm-gpg,sysconfig,default,rpm,kernel}
cp www/RPM-GPG-KEY-elrepo.org "$R/etc/pki/rpm-gpg/"
cat > "$R/etc/dnf/dnf.conf" <<X
[main]
gpgcheck=1
installonly_limit=3
clean_requirements_on_remove=True
reposdir=/etc/yum.repos.d
X
# EL7's yum reads /etc/yum.conf; dnf reads only its own file.
if [ $BLS = 0 ]; then mv "$R/etc/dnf/dnf.conf" "$R/etc/yum.conf"; ln -s ../yum.conf "$R/etc/dnf/dnf.conf"; else ln -s dnf/dnf.conf "$R/etc/yum.conf"; fi
key=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-elrepo.org
cat > "$R/etc/yum.repos.d/base.repo" <<X
[base]
name=$NAME \$releasever - Base
baseurl=http://10.0.2.100/base/\$releasever/os/\$basearch/
gpgcheck=1
gpgkey=$key
X
cat > "$R/etc/yum.repos.d/elrepo.repo" <<X
[elrepo-kernel]
name=ELRepo.org Community Enterprise Linux Kernel Repository - $EL
baseurl=http://10.0.2.100/elrepo-kernel/$EL/\$basearch/
enabled=0
gpgcheck=1
gpgkey=$key
protect=0

[elrepo-kernel-archive]
name=A site's mirror of ELRepo's kernels, older versions kept - $EL
baseurl=http://10.0.2.100/elrepo-kernel-archive/$EL/\$basearch/
enabled=0
gpgcheck=1
gpgkey=$key
X
rm -f "$R"/etc/kernel/*.d/* # Debian's zz-update-grub: --rpmposttrans would run it
# Debian gives every user an rpm database of his own; EL has one.
printf '%%_dbpath /var/lib/rpm\n%%rhel %s\n%%dist .%s\n' "$MAJOR" "$EL" > "$R/etc/rpm/macros"
if [ $BLS = 1 ]; then DEFAULTKERNEL=kernel-core; else DEFAULTKERNEL=kernel; fi
printf 'UPDATEDEFAULT=yes\nDEFAULTKERNEL=%s\n' $DEFAULTKERNEL > "$R/etc/sysconfig/kernel"

# dracut, real and stand-in, and the part of the stand-in's image that is always the same.
cp /usr/bin/busybox "$lib/busybox"
mv "$R/usr/bin/dracut" "$R/usr/bin/dracut.real"; install -m 755 "$G/dracut" "$R/usr/bin/dracut"
mkdir -p tree/{bin,dev,proc,sys,sysroot}; cp /usr/bin/busybox tree/bin/; ln -s busybox tree/bin/sh
(cd tree; find . | cpio -o -H newc --quiet) > "$lib/initramfs-base.cpio"; rm -rf tree
cat > "$R/etc/dracut.conf.d/lab.conf" <<X
hostonly=yes
hostonly_cmdline=no
add_drivers+=" virtio_blk virtio_pci "
filesystems+=" ext4 "
dracutmodules+=" base kernel-modules rootfs-block udev-rules fs-lib shutdown "
compress="gzip -1"
early_microcode=no
do_strip=no
i18n_install_all=no
X

mkdir "$R/tmp/rpms"; cp www/base/*/os/x86_64/Packages/*.rpm "$R/tmp/rpms/"; rm "$R"/tmp/rpms/fleetd-lab-sample*
chroot "$R" rpm --import /etc/pki/rpm-gpg/RPM-GPG-KEY-elrepo.org
chroot "$R" sh -c 'rpm --force-debian -i --noscripts /tmp/rpms/*.rpm'; rm -rf "$R/tmp/rpms"

# GRUB with EL's names. Debian's tools look in /boot/grub, EL's in /boot/grub2.
rm -rf "$R/boot/grub"; mkdir -p "$R/boot/grub2/i386-pc"; ln -s grub2 "$R/boot/grub"; ln -s ../boot/grub2/grub.cfg "$R/etc/grub2.cfg"
for c in editenv script-check; do ln -s grub-$c "$R/usr/bin/grub2-$c"; done
for c in set-default reboot; do ln -s grub-$c "$R/usr/sbin/grub2-$c"; done
cp "$R"/usr/lib/grub/i386-pc/*.{mod,lst} "$R/boot/grub2/i386-pc/"
args="ro console=ttyS0,115200n8 net.ifnames=0 crashkernel=auto panic=10 mitigations=off quiet"
{ printf 'GRUB_TIMEOUT=1\nGRUB_DEFAULT=saved\nGRUB_DISABLE_SUBMENU=true\nGRUB_CMDLINE_LINUX="%s"\n' "${args#ro }"
  [ $BLS = 0 ] || echo GRUB_ENABLE_BLSCFG=true; } > "$R/etc/default/grub"
{ cat <<X
### BEGIN /etc/grub.d/00_header ###
set pager=1

if [ -s \$prefix/grubenv ]; then
  load_env
fi
if [ "\${next_entry}" ] ; then
   set default="\${next_entry}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="\${saved_entry}"
fi

if [ x"\${feature_menuentry_id}" = xy ]; then
  menuentry_id_option="--id"
else
  menuentry_id_option=""
fi

export menuentry_id_option

function savedefault {
  if [ -z "\${boot_once}" ]; then
    saved_entry="\${chosen}"
    save_env saved_entry
  fi
}
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
set timeout=1
### END /etc/grub.d/00_header ###

### BEGIN /etc/grub.d/10_linux ###
X
if [ $BLS = 1 ]; then
  printf "insmod part_msdos\ninsmod ext2\nset root='hd0,msdos1'\n### BEGIN blscfg ###\n### END blscfg ###\n"
else cat <<X
menuentry '$NAME ($BASE) $VERSION' --class centos --class gnu-linux --class gnu --class os --unrestricted \$menuentry_id_option 'gnulinux-$BASE-advanced-$UUID' {
	set gfxpayload=keep
	insmod gzio
	insmod part_msdos
	insmod ext2
	set root='hd0,msdos1'
	linux16 /vmlinuz-$BASE root=UUID=$UUID $args
	initrd16 /initramfs-$BASE.img
}
X
fi
echo '### END /etc/grub.d/10_linux ###'; } > "$R/boot/grub2/grub.cfg"
chroot "$R" grub-editenv /boot/grub2/grubenv create
if [ $BLS = 1 ]; then
  # grub2-mkconfig would write Debian's dialect: here it renders the entries.
  ln -s ../libexec/fleetd-lab/blscfg "$R/usr/sbin/grub2-mkconfig"
  mkdir -p "$R/boot/loader/entries"
  echo "root=UUID=$UUID $args" > "$R/etc/kernel/cmdline"
  [ "$EL" != el8 ] || chroot "$R" grub-editenv /boot/grub2/grubenv set "kernelopts=root=UUID=$UUID $args"
  # kernel-install asks whether /boot is a mount point; in this chroot it is not yet one.
  mv "$R/usr/bin/mountpoint" "$R/usr/bin/mountpoint.real"; ln -s true "$R/usr/bin/mountpoint"
  chroot "$R" kernel-install add "$BASE" "/lib/modules/$BASE/vmlinuz"
  mv "$R/usr/bin/mountpoint.real" "$R/usr/bin/mountpoint"
  chroot "$R" grub-editenv /boot/grub2/grubenv set "saved_entry=$MACHINE_ID-$BASE"
else
  ln -s grub-mkconfig "$R/usr/sbin/grub2-mkconfig"
  chroot "$R" depmod "$BASE"
  chroot "$R" dracut -f "/boot/initramfs-$BASE.img" "$BASE"
  chroot "$R" grub-editenv /boot/grub2/grubenv set "saved_entry=$NAME ($BASE) $VERSION"
fi
[ -z "$programs" ] || . "$here/mkkubernetes.sh"
rm -rf "$R"/var/lib/apt/lists/* "$R"/var/cache/apt/*.bin "$R"/usr/share/{doc,man,locale,i18n}/* "$R/usr/lib/grub/i386-pc"
chroot "$R" python3 -m compileall -q /usr/lib/python3 >/dev/null 2>&1 || true # dnf starts in half the time

# The disk.
boot_mib=400 root_mib=1600; [ -z "$programs" ] || root_mib=3000
rm -f disk.raw base.qcow2; truncate -s $((boot_mib + root_mib + 1))M disk.raw
printf '2048,%d,L,*\n%d,,L\n' $((boot_mib * 2048)) $(((boot_mib + 1) * 2048)) | sfdisk -q disk.raw
mv img/boot boot; mkdir img/boot
fs() { mke2fs -q -F -t ext4 -b 4096 -O ^metadata_csum_seed,^orphan_file -m 0 "$@"; }
fs -U $BOOT_UUID -L boot -E offset=1048576,root_owner=0:0 -d boot disk.raw $((boot_mib * 256))
fs -U $UUID -L root -E offset=$(((boot_mib + 1) * 1048576)),root_owner=0:0 -d img disk.raw $((root_mib * 256 - 256))
grub-mkimage -O i386-pc -d /usr/lib/grub/i386-pc -p '(hd0,msdos1)/grub2' -o core.img biosdisk part_msdos ext2
dd if=/usr/lib/grub/i386-pc/boot.img of=disk.raw bs=446 count=1 conv=notrunc status=none
dd if=core.img of=disk.raw bs=512 seek=1 conv=notrunc status=none
qemu-img convert -O qcow2 disk.raw base.qcow2; chmod 444 base.qcow2
rm -rf img boot disk.raw core.img
