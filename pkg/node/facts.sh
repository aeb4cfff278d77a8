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
# Arguments are read keys: package=NAME@REPO, install=PACKAGE@REPO, file=PATH, text=PATH;
# "unstaged", which asks the repositories also where packages are staged; "upkeep"; and
# "brief", which leaves all out that has nothing to do with packages. Plain
# POSIX shell: EL7 has bash 4.2 as sh, others dash or busybox. It only reads, and
# starts as few processes as it can: three hundred busy nodes run it at the same
# time.

LC_ALL=C; LANG=C; export LC_ALL LANG   # yum translates the headings that are parsed
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin; export PATH
umask 077
nonce=
read -r nonce </proc/sys/kernel/random/uuid || nonce=$$-no-uuid
printf 'fleetd-facts 1 %s\n' "$nonce"

has() { command -v "$1" >/dev/null; }
bounded=
has timeout && bounded=y

# No command may hang the node's turn: a dead NFS mount under df, a stuck rpm
# database.
limited() { # limited SECONDS COMMAND...
	t=$1; shift
	has "$1" || { echo "$1: not found"; return 127; }
	if [ -n "$bounded" ]; then timeout -k 5 "$t" "$@"; else "$@"; fi
}

# Standard input is closed to every command: the shell may be reading this very
# script from it.
emit() { # emit NAME COMMAND...
	printf '%s begin %s\n' "$nonce" "$1"; shift
	"$@" </dev/null 2>&1
	printf '\n%s end %s\n' "$nonce" "$?"
}

line() { read -r l <"$1" && printf '%s\n' "$l"; }
files() { for f in "$@"; do [ -r "$f" ] && cat "$f"; done; }
first() { for f in "$@"; do [ -r "$f" ] && { cat "$f"; return; }; done; return 1; }

# The name at the end of a link, in $name.
target() { name=$(readlink -f "$1"); name=${name##*/}; }

# What is kept in step with a kernel where it is installed.
companions="devel headers tools tools-libs"

kernel_packages() {
	set --
	for k in kernel kernel-lt kernel-ml kernel-rt kernel-uek $kernels; do
		set -- "$@" "$k" "$k-core" "$k-modules" "$k-modules-core"
		for c in $companions; do set -- "$@" "$k-$c"; done
	done
	# The exit status only counts those that are not installed.
	limited 60 rpm -q --qf '%{NAME} %{EPOCHNUM} %{VERSION} %{RELEASE} %{ARCH}\n' "$@"
}

# Images are cloned with the first file empty or "uninitialized".
machine_id() {
	for f in /etc/machine-id /var/lib/dbus/machine-id; do
		[ -r "$f" ] && { cat "$f"; echo; }
	done
	return 0
}

grubenv=
for f in /boot/grub2/grubenv /boot/efi/EFI/*/grubenv /boot/grub/grubenv; do
	[ -e "$f" ] && { grubenv=$(readlink -f "$f"); break; }
done
grubenv_path() { [ -n "$grubenv" ] && stat -c '%s %n' "$grubenv"; }
say() { # say STATUS TEXT
	printf '%s\n' "$2"
	return "$1"
}

# As grub2-editenv list prints it. That program creates a file that is missing,
# and nothing here may write.
editenv() { [ -n "$grubenv" ] && grep = "$grubenv"; }

# The lines of each grub.cfg that say what boots, and, on EFI, which folder the
# loader is in that the firmware started: of the file name in Boot0001, say, which
# is in UTF-16, the part after \EFI\.
grub_cfg() {
	set -- /boot/grub2/grub.cfg
	if [ -d /sys/firmware/efi ]; then
		set -- /boot/efi/EFI/*/grub.cfg "$@"
		efi_loader
	fi
	grep -HsE '^[[:space:]]*(set default=|save_env|configfile|submenu)' "$@"
}
efi_loader() {
	vars=/sys/firmware/efi/efivars guid=8be4df61-93ca-11d2-aa0d-00e098032b8c
	set -- $(od -An -t x1 -j 4 -N 2 "$vars/BootCurrent-$guid" | tr a-f A-F)
	[ $# -ne 2 ] || tr -d '\000' <"$vars/Boot$2$1-$guid" | grep -aoi '\\EFI\\[^\]*'
}

entries() { [ -d /boot/loader/entries ] && ls /boot/loader/entries; }

# The layers below a block device, one a line, and the drivers at the bottom.
layers() { # layers SYSFS-FOLDER
	# A partition has no layer of its own: it is its disk that may be one.
	[ -e "$1/partition" ] && { layers "${1%/*}"; return; }
	uuid=
	[ -r "$1/dm/uuid" ] && read -r uuid <"$1/dm/uuid"
	case $uuid in
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
	d=$1
	while [ -n "$d" ] && [ "$d" != /sys ] && [ "$d" != /sys/devices ]; do
		[ -e "$d/driver/module" ] && { target "$d/driver/module"; echo "driver $name"; }
		[ -e "$d/device/driver/module" ] && { target "$d/device/driver/module"; echo "driver $name"; }
		d=${d%/*}
	done
}

# What lies below the file system that a path is on, from df's line about it.
stack() { # stack LINE
	source=${1%% *}
	echo "source $source"
	case $source in /dev/*) ;; *) return 0 ;; esac
	target "$source"
	[ -e "/sys/class/block/$name" ] && layers "$(readlink -f "/sys/class/block/$name")"
	return 0
}

interfaces() {
	for i in /sys/class/net/*; do
		n=${i##*/}
		case $n in lo|cali*|veth*|lxc*|bonding_masters) continue ;; esac
		mtu=0; state=unknown; name=
		read -r mtu <"$i/mtu"
		read -r state <"$i/operstate"
		[ -e "$i/device/driver/module" ] && target "$i/device/driver/module"
		echo "$n $mtu $state $name"
	done
}

# For each kernel: the sizes of image and initramfs, whether it has modules, and
# which of the drivers in use now it lacks. A driver may be a module in one
# kernel and built in in another; file names have - and _ as their authors
# liked, the kernel takes both as _.
kernel_files() { # kernel_files DRIVER...
	set -- "$*" /boot/vmlinuz-* /boot/initramfs-*.img /lib/modules/*/modules.dep /lib/modules/*/modules.builtin
	wanted=$1; shift
	for f in "$@"; do
		shift
		[ -e "$f" ] && set -- "$@" "$f"
	done
	[ $# -gt 0 ] || return 0
	stat -c '%s %n' "$@" | awk -v wanted="$wanted" '
		function basename(p) { sub(/.*\//, "", p); return p }
		{
			path = $2
			if (path ~ /^\/boot\/vmlinuz-/) { r = substr(path, 15); image[r] = $1; seen[r] }
			else if (path ~ /^\/boot\/initramfs-/) { r = substr(path, 17); sub(/\.img$/, "", r); initramfs[r] = $1 }
			else {
				r = path; sub(/^\/lib\/modules\//, "", r); sub(/\/.*/, "", r)
				if (path ~ /\.dep$/) { modules[r]; seen[r] }
				while ((getline l < path) > 0) {
					sub(/:.*/, "", l); l = basename(l); sub(/\.ko.*/, "", l); gsub(/-/, "_", l)
					have[r, l]
				}
				close(path)
			}
		}
		END {
			n = split(wanted, w, " ")
			for (r in seen) {
				out = r " " image[r] + 0 " " initramfs[r] + 0 " " ((r in modules) ? "yes" : "no")
				for (i = 1; i <= n && (r in modules); i++) {
					m = w[i]; gsub(/-/, "_", m)
					if (!((r, m) in have)) out = out " " w[i]
				}
				print out
			}
		}'
}

lock_holder() {
	for f in /var/run/yum.pid /var/lib/dnf/rpmdb_lock.pid /var/cache/dnf/metadata_lock.pid /var/cache/dnf/download_lock.pid; do
		[ -s "$f" ] || continue
		pid=
		read -r pid rest <"$f"
		case $pid in ''|*[!0-9]*) continue ;; esac
		# A file that a killed yum left behind names no living process.
		[ -r "/proc/$pid/comm" ] && read -r name <"/proc/$pid/comm" && echo "$pid $name"
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
	for l in /etc/systemd/system/*.wants/kdump.service; do
		[ -L "$l" ] && echo enabled
	done
	[ -r /sys/kernel/kexec_crash_loaded ] && read -r l </sys/kernel/kexec_crash_loaded && echo "loaded $l"
	return 0
}

tools() {
	for t in dnf yum rpm grubby grub2-reboot grub2-editenv dracut; do has $t && echo $t; done
	return 0
}

stanza() { # stanza REPO
	awk -v r="[$1]" '
		/^[ \t]*\[/ { gsub(/[ \t\r]/, ""); on = ($0 == r); next }
		on { print }' /etc/yum.repos.d/*.repo
}

missing_keys() { # missing_keys REPO
	for k in $(stanza "$1" | awk '
		/^[a-z_]+[ \t]*=/ { on = /^gpgkey/ }
		on { gsub(/[,=]/, " "); for (i = 1; i <= NF; i++) if (sub(/^file:\/\//, "", $i)) print $i }'); do
		# Names with yum's variables ($releasever) cannot be looked up from here.
		case $k in *\$*) ;; *) [ -e "$k" ] || echo "$k" ;; esac
	done
}

# Metadata goes to a folder of its own: the package cache stays as it is, its
# age cannot hide a version that is gone (ELRepo keeps only the newest), and dnf
# waits for no lock on it. yum 3 has one lock for all, whatever its cachedir, and
# waits for it as long as it is let. skip_if_unavailable would turn a dead mirror
# into "nothing available". A key for repo_gpgcheck is in yum's own cache only: the
# packages themselves are checked when they are installed.
#
# Where the packages are staged, the metadata that was staged with them is asked, and
# nothing else: what was reviewed stays to be had, whatever the mirror has by now.
available() { # available NAME REPO
	tmp=$(mktemp -d "${TMPDIR:-/tmp}/fleetd-facts.XXXXXX") || return
	limited 150 yum $offline --disablerepo='*' --enablerepo="$2" \
		--setopt=cachedir="${from_stage:-$tmp}" --setopt=logdir="$tmp" --setopt="$2.skip_if_unavailable=0" \
		--setopt="$2.repo_gpgcheck=0" --setopt=timeout=20 --setopt=retries=2 \
		list --showduplicates "$1"
	status=$?
	rm -rf "$tmp"
	return $status
}

# What yum would do, asked as it will be told to, with all repositories: a dead one
# that has nothing to do with kernels, or a dependency that none has, fails the
# install as well. Metadata and dnf's history go to a folder of their own, as above.
# What is kept in step is asked for with it, in the same version, which yum tells: dnf
# takes no newer one of what is installed and named without a version.
would_install() { # would_install PACKAGE REPO
	tmp=$(mktemp -d "${TMPDIR:-/tmp}/fleetd-facts.XXXXXX") || return
	wanted=$1 repo=$2 name= with=
	for k in $kernels; do
		case $wanted in "$k"|"$k"-[0-9]*) ;; *) continue ;; esac
		for c in $companions; do
			case $rpm_says in *"
$k-$c "[0-9\(]*) name=$k with="$with $c" ;; esac
		done
	done
	says= status= version=${wanted#"$name"}
	if [ -z "$version" ]; then
		says=$(ask_install "$name" 2>&1)
		status=$?
		version=$(printf '%s\n' "$says" | awk -v name="$name" -v arch="$(uname -m)" '
			{ for (i = 1; i <= NF; i++) { if (two == name && one == arch) { print "-" $i; exit } two = one; one = $i } }')
	fi
	if [ -n "$version" ]; then
		set -- "$name$version"
		for c in $with; do set -- "$@" "$name-$c$version"; done
		ask_install "$@"
		status=$?
	else
		printf '%s\n' "$says"
	fi
	rm -rf "$tmp"
	return $status
}
ask_install() { # ask_install PACKAGE...
	limited 150 yum $offline --setopt=cachedir="${from_stage:-$tmp}" --setopt=persistdir="$tmp" --setopt=logdir="$tmp" \
		--setopt='*.repo_gpgcheck=0' --setopt=timeout=20 --setopt=retries=2 \
		--enablerepo="$repo" install --assumeno "$@"
}

# What fleetd.kernel.stage has downloaded, as long as it is there and not installed:
# the question to yum that it answers, the kernel's package, and since when.
stage=/var/cache/fleetd/stage
staged() {
	[ -r "$stage/staged" ] || return 0
	{
		read -r question package since || return 0
		while read -r f; do [ -s "$stage/$f" ] || return 0; done
	} <"$stage/staged"
	limited 60 rpm -q "$package" >/dev/null && return
	echo "$question $package $since"
}

# A small file, to show what would change in it: one that anybody may read.
text() { # text PATH
	case $(stat -L -c %a -- "$1") in *[4567]) ;; *) return 1 ;; esac
	[ -f "$1" ] && [ "$(stat -L -c %s -- "$1")" -le 32768 ] && hex <"$1"
}

# Kernels, and the packages of which an update is in force only after a reboot:
# those of dnf's needs-restarting.
dated_packages() {
	set --
	for k in kernel kernel-lt kernel-ml kernel-rt kernel-uek; do set -- "$@" "$k" "$k-core"; done
	limited 60 rpm -q --qf '%{NAME} %{EPOCHNUM} %{VERSION} %{RELEASE} %{ARCH} %{INSTALLTIME} %{BUILDTIME} %{VENDOR}\n' \
		"$@" glibc linux-firmware systemd dbus dbus-broker dbus-daemon microcode_ctl
}

kernels= brief= unstaged= from_stage= offline=
staged_says=$(staged </dev/null 2>/dev/null)
for key in "$@"; do
	case $key in
	brief) brief=y ;;
	unstaged) unstaged=y ;;
	install="${staged_says%% *}") from_stage=$stage offline=-C ;;
	package=*@*) k=${key#package=}; kernels="$kernels ${k%@*}" ;;
	esac
done
[ -z "$unstaged" ] || from_stage='' offline=''

emit hostname line /proc/sys/kernel/hostname
emit running line /proc/sys/kernel/osrelease
emit build line /proc/sys/kernel/version
emit arch uname -m
emit boot-id line /proc/sys/kernel/random/boot_id
emit os-release first /etc/os-release /usr/lib/os-release
emit cmdline line /proc/cmdline
emit tools tools
rpm_says="
$(kernel_packages </dev/null 2>&1)"
emit rpm say "$?" "$rpm_says"
emit staged say 0 "$staged_says${from_stage:+ asked}"
emit yum-conf files /etc/dnf/dnf.conf /etc/yum.conf
emit lock-holder lock_holder
[ -z "$brief" ] || { printf '%s done\n' "$nonce"; exit; }
emit machine-id machine_id
emit versionlock files /etc/yum/pluginconf.d/versionlock.list /etc/dnf/plugins/versionlock.list

# The script of EL8 and later forks 50 times for each entry, whatever it is asked,
# and its default is what saved_entry names of the entries that it shows, each
# with its id. EL7's C program reads grub.cfg, too, and has to be asked.
grubby_says=$(limited 60 grubby --info=ALL </dev/null 2>&1)
grubby_status=$?
emit grubby-info say "$grubby_status" "$grubby_says"
case $grubby_says in
*'
id='*) ;;
*) emit grubby-default limited 60 grubby --default-kernel ;;
esac
emit bls entries
emit grubenv editenv
emit grubenv-path grubenv_path
emit default-grub files /etc/default/grub
emit sysconfig-kernel files /etc/sysconfig/kernel
emit grub-cfg grub_cfg
emit dead-man line /etc/systemd/system/fleetd-trial.service
emit failed-trials files /var/lib/fleetd/failed-trials
emit trial files /var/lib/fleetd/trial
emit mounts cat /proc/mounts

# One df for all; the first line after the heading is about /, the last about grubenv.
df_says=$(limited 20 df -P / /boot /usr /var /var/cache /var/tmp "${grubenv:-/boot}" 2>&1)
emit df printf '%s\n' "$df_says"
root_line= grubenv_line=
heading=y
while read -r l; do
	case $l in
	Filesystem*) heading= ;;
	*) [ -n "$heading" ] || { root_line=${root_line:-$l}; grubenv_line=$l; } ;;
	esac
done <<DF
$df_says
DF
root_stack=$(stack "$root_line")
emit root-stack printf '%s\n' "$root_stack"
emit grubenv-stack stack "$grubenv_line"
nics=$(interfaces)
emit interfaces printf '%s\n' "$nics"
in_use=
while read -r word m; do
	[ "$word" = driver ] && in_use="$in_use $m"
done <<STACK
$root_stack
STACK
while read -r n mtu state m; do
	[ "$state" = up ] && [ -n "$m" ] && in_use="$in_use $m"
done <<NICS
$nics
NICS
emit kernels kernel_files $in_use
emit modules-taint grep -s . /sys/module/*/taint
emit secure-boot secure_boot
emit kdump kdump
emit cgroup stat -fc %T /sys/fs/cgroup
emit kubelet limited 20 kubelet --version
emit panic line /proc/sys/kernel/panic
for key in "$@"; do
	case $key in
	package=*@*)
		k=${key#package=}
		emit "package $k" available "${k%@*}" "${k##*@}"
		emit "repo ${k##*@}" stanza "${k##*@}"
		emit "repo-missing-keys ${k##*@}" missing_keys "${k##*@}"
		;;
	install=*@*) k=${key#install=}; emit "install $k" would_install "${k%@*}" "${k##*@}" ;;
	upkeep)
		emit uptime line /proc/uptime
		emit boot-time grep -s ^btime /proc/stat
		emit loaded-modules cut -d' ' -f1 /proc/modules
		emit dated-packages dated_packages
		;;
	file=*) emit "file ${key#file=}" file "${key#file=}" ;;
	text=*) emit "text ${key#text=}" text "${key#text=}" ;;
	esac
done
printf '%s done\n' "$nonce"
