#!/bin/sh
# Installs the Debian packages that the tests and the labs need, and those named
# as arguments. Quiet and quick when they are there already. Debian 12, root.
set -eu
# - the labs' machines: qemu, an image from Debian packages, rpm repositories, GRUB
# - sshd and ansible: the tests compare with the real ones
# - curl, iptables, nftables: what asks for Services, and the rules that it counts
# - chromium: the page of fleetd serve in a real browser
# - npm: fetches axe-core, which looks whether the page can be read by everybody
# - clang: the committed BPF objects are compiled again and compared
packages="
qemu-system-x86 qemu-utils mmdebstrap rpm createrepo-c grub-pc-bin grub-common grub2-common fdisk e2fsprogs
zstd lz4 busybox-static cpio netcat-openbsd gnupg python3 kmod iproute2 xz-utils
openssh-server openssh-client sudo ansible-core
curl iptables nftables chromium
clang llvm libbpf-dev make git ca-certificates
$*
"
# Where node comes from elsewhere, npm comes with it.
command -v npm >/dev/null || packages="$packages npm"
missing=
for p in $packages; do
	dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
	echo "fleetd's tests need these Debian packages:$missing" >&2
	echo "install them, or run this as root" >&2
	exit 1
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >/dev/null
# shellcheck disable=SC2086 # a list of words
apt-get install -y -q --no-install-recommends $missing >/dev/null
