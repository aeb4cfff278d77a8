# Gathers what fleetd has to know of a node and prints it in sections:
#
#   fleetd-facts 1 NONCE
#   NONCE begin NAME
#   …output of a command, standard error included…
#   NONCE end EXIT-STATUS
#   NONCE done
#
# The nonce is new each time, so no output can forge a marker. A tool that is
# missing makes a section that ends with 127, never a script that stops.
# Arguments are read keys: package=NAME@REPO, file=PATH. Plain POSIX shell: EL7
# has bash 4.2 as sh, others dash or busybox. It only reads.

LC_ALL=C; LANG=C; export LC_ALL LANG   # yum translates the headings that are parsed
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin; export PATH
umask 077
nonce=
read -r nonce </proc/sys/kernel/random/uuid || nonce=$$-no-uuid
printf 'fleetd-facts 1 %s\n' "$nonce"

# No command may hang the node's turn (a dead NFS mount under df, a stuck rpm
# database) nor flood it.
limited() { # limited SECONDS COMMAND...
	t=$1; shift
	command -v "$1" >/dev/null || { echo "$1: not found"; return 127; }
	if command -v timeout >/dev/null; then timeout -k 5 "$t" "$@"; else "$@"; fi
}
bound() { if command -v head >/dev/null; then head -c 262144; else cat; fi; }

# Standard input is closed to every command: the shell may be reading this very
# script from it.
emit() { # emit NAME COMMAND...
	printf '%s begin %s\n' "$nonce" "$1"; shift
	{ rc=$({ { "$@" </dev/null 2>&1 3>&- 4>&-; echo $? >&3; } | bound >&4; } 3>&1); } 4>&1
	printf '\n%s end %s\n' "$nonce" "$rc"
}

files() { for f in "$@"; do [ -r "$f" ] && cat "$f"; done; }
first() { for f in "$@"; do [ -r "$f" ] && { cat "$f"; return; }; done; return 1; }

kernel_packages() {
	set --
	for k in kernel kernel-lt kernel-ml kernel-rt kernel-uek $kernels; do
		set -- "$@" "$k" "$k-core" "$k-modules" "$k-modules-core"
	done
	# Exit status 1 only says that some of them are not installed.
	limited 60 rpm -q --qf '%{NAME} %{EPOCHNUM} %{VERSION} %{RELEASE} %{ARCH}\n' "$@"
}

grubenv_path() {
	for f in /boot/grub2/grubenv /boot/efi/EFI/*/grubenv /boot/grub/grubenv; do
		[ -e "$f" ] && { p=$(readlink -f "$f"); stat -c '%s %n' "$p"; return; }
	done
	return 1
}

# Only where there is a grubenv: "list" creates one that is missing, and nothing
# here may write. grub2-editenv is grub-editenv elsewhere.
editenv() {
	grubenv_path >/dev/null || { echo 'no grubenv'; return 1; }
	for c in grub2-editenv grub-editenv; do
		command -v $c >/dev/null && { limited 10 $c "$(readlink -f "$(grubenv_path | cut -d' ' -f2-)")" list; return; }
	done
	return 127
}

# The layers below a block device, one word a line: lvm, crypt, multipath, raid, and
# the names of the disks at the bottom.
layers() { # layers SYSFS-FOLDER
	case $(cat "$1/dm/uuid" 2>/dev/null) in
	LVM-*) echo layer lvm ;;
	CRYPT-*) echo layer crypt ;;
	*mpath-*) echo layer multipath ;;
	?*) echo layer device-mapper ;;
	esac
	[ -d "$1/md" ] && echo layer raid
	below=
	for s in "$1"/slaves/*; do
		[ -e "$s" ] && { below=y; ( layers "$(readlink -f "$s")" ); }
	done
	[ -n "$below" ] || drivers "$1"
}

# The modules of a device and of all that it hangs on.
drivers() { # drivers SYSFS-FOLDER
	d=$(readlink -f "$1")
	[ -e "$d/device" ] && d=$(readlink -f "$d/device")
	while [ -n "$d" ] && [ "$d" != /sys ] && [ "$d" != /sys/devices ]; do
		[ -e "$d/driver/module" ] && echo "driver $(basename "$(readlink -f "$d/driver/module")")"
		[ -e "$d/device/driver/module" ] && echo "driver $(basename "$(readlink -f "$d/device/driver/module")")"
		d=${d%/*}
	done
}

# What lies below the file system that a path is on.
stack() { # stack PATH
	source=$(limited 10 df -P "$1" | awk 'NR > 1 { print $1; exit }')
	echo "source $source"
	case $source in
	/dev/*) b=/sys/class/block/$(basename "$(readlink -f "$source")") ;;
	*) return 0 ;;
	esac
	[ -e "$b" ] || return 0
	layers "$(readlink -f "$b")"
}

interfaces() {
	for i in /sys/class/net/*; do
		n=${i##*/}
		case $n in lo|cali*|veth*|lxc*|bonding_masters) continue ;; esac
		m=
		[ -e "$i/device/driver/module" ] && m=$(basename "$(readlink -f "$i/device/driver/module")")
		echo "$n $(cat "$i/mtu") $(cat "$i/operstate") $m"
	done
}

# For each kernel: image, initramfs, modules.dep, and which of the drivers in
# use now it lacks. A driver may be a module in one kernel and built in in another.
kernel_files() { # kernel_files DRIVER...
	for r in $(
		for f in /boot/vmlinuz-* /lib/modules/*/modules.dep; do
			[ -e "$f" ] || continue
			case $f in
			/boot/*) echo "${f#/boot/vmlinuz-}" ;;
			*) f=${f%/modules.dep}; echo "${f##*/}" ;;
			esac
		done | sort -u
	); do
		image=0; initramfs=0; modules=no; missing=
		[ -e "/boot/vmlinuz-$r" ] && image=$(stat -c %s "/boot/vmlinuz-$r")
		[ -e "/boot/initramfs-$r.img" ] && initramfs=$(stat -c %s "/boot/initramfs-$r.img")
		if [ -e "/lib/modules/$r/modules.dep" ]; then
			modules=yes
			for m in "$@"; do
				# File names have - and _ as their authors liked; the kernel takes both as _.
				p=$(echo "$m" | sed 's/[-_]/[-_]/g')
				grep -q "/$p\.ko" "/lib/modules/$r/modules.dep" "/lib/modules/$r/modules.builtin" 2>/dev/null ||
					missing="$missing $m"
			done
		fi
		echo "$r $image $initramfs $modules$missing"
	done
}

lock_holder() {
	for f in /var/run/yum.pid /var/lib/dnf/rpmdb_lock.pid /var/cache/dnf/metadata_lock.pid /var/cache/dnf/download_lock.pid; do
		[ -s "$f" ] || continue
		read -r pid rest <"$f"
		case $pid in ''|*[!0-9]*) continue ;; esac
		# A file that a killed yum left behind names no living process.
		[ -e "/proc/$pid/comm" ] && echo "$pid $(cat "/proc/$pid/comm") $(tr '\0' ' ' <"/proc/$pid/cmdline")"
	done
	return 0
}

secure_boot() {
	[ -d /sys/firmware/efi ] || { echo bios; return; }
	echo efi
	for v in /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c \
		/sys/firmware/efi/vars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c/data; do
		[ -r "$v" ] && { echo "bytes $(od -An -t u1 "$v")"; return; }
	done
	limited 10 mokutil --sb-state
}

kdump() {
	echo "enabled $(limited 10 systemctl is-enabled kdump 2>/dev/null)"
	echo "loaded $(cat /sys/kernel/kexec_crash_loaded 2>/dev/null)"
}

tools() { for t in dnf yum rpm grubby grub2-reboot grub2-editenv dracut; do command -v $t >/dev/null && echo $t; done; }

stanza() { # stanza REPO
	awk -v r="[$1]" '
		/^[ \t]*\[/ { gsub(/[ \t\r]/, ""); on = ($0 == r); next }
		on { print }' /etc/yum.repos.d/*.repo
}

missing_keys() { # missing_keys REPO
	for k in $(stanza "$1" | sed -n '/^gpgkey/,/^[a-z_]* *=/p' | tr ', =' '\n\n\n' | sed -n 's,^file://,,p'); do
		# Names with yum's variables ($releasever) cannot be looked up from here.
		case $k in *\$*) ;; *) [ -e "$k" ] || echo "$k" ;; esac
	done
}

# Metadata goes to a folder of its own: the package cache stays as it is, its
# age cannot hide a version that is gone (ELRepo keeps only the newest), and no
# lock on it is waited for. skip_if_unavailable would turn a dead mirror into
# "nothing available".
available() { # available NAME REPO
	tmp=$(mktemp -d "${TMPDIR:-/tmp}/fleetd-facts.XXXXXX") || return
	limited 90 yum --disablerepo='*' --enablerepo="$2" \
		--setopt=cachedir="$tmp" --setopt=logdir="$tmp" --setopt="$2.skip_if_unavailable=0" \
		--setopt=timeout=20 --setopt=retries=2 \
		list --showduplicates "$1"
	status=$?
	rm -rf "$tmp"
	return $status
}

file() { # file PATH
	[ -e "$1" ] || { echo missing; return; }
	stat -L -c '%a %s %F' -- "$1"
	[ -f "$1" ] && sha256sum <"$1"
}

kernels=
for key in "$@"; do
	case $key in package=*@*) k=${key#package=}; kernels="$kernels ${k%@*}" ;; esac
done

emit hostname uname -n
emit running uname -r
emit build uname -v
emit arch uname -m
emit boot-id cat /proc/sys/kernel/random/boot_id
emit os-release first /etc/os-release /usr/lib/os-release
emit cmdline cat /proc/cmdline
emit tools tools
emit rpm kernel_packages
emit grubby-info limited 60 grubby --info=ALL
emit grubby-default limited 60 grubby --default-kernel
emit bls ls /boot/loader/entries
emit grubenv editenv
emit grubenv-path grubenv_path
emit default-grub files /etc/default/grub
emit sysconfig-kernel files /etc/sysconfig/kernel
emit mounts cat /proc/mounts
emit df limited 20 df -P / /boot /usr /var /var/cache /var/tmp
emit root-stack stack /
emit grubenv-stack stack "$(grubenv_path | { read -r size path; echo "${path:-/boot}"; })"
emit interfaces interfaces
in_use=$({ stack /; interfaces | while read -r n mtu state m; do [ "$state" = up ] && [ -n "$m" ] && echo "driver $m"; done; } 2>/dev/null |
	sed -n 's/^driver //p' | sort -u)
emit kernels kernel_files $in_use
emit modules-taint grep -s . /sys/module/*/taint
emit secure-boot secure_boot
emit yum-conf files /etc/dnf/dnf.conf /etc/yum.conf
emit lock-holder lock_holder
emit kdump kdump
emit cgroup limited 10 stat -fc %T /sys/fs/cgroup
emit kubelet limited 20 kubelet --version
emit panic cat /proc/sys/kernel/panic
for key in "$@"; do
	case $key in
	package=*@*)
		k=${key#package=}
		emit "package $k" available "${k%@*}" "${k##*@}"
		emit "repo ${k##*@}" stanza "${k##*@}"
		emit "repo-missing-keys ${k##*@}" missing_keys "${k##*@}"
		;;
	file=*) emit "file ${key#file=}" file "${key#file=}" ;;
	esac
done
printf '%s done\n' "$nonce"
