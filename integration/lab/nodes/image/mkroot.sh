#!/bin/bash
# mkroot.sh FILE [PACKAGE]...: the nodes' user space as a tar file, from Debian packages of the mirror that the machine's apt configuration names.
set -euo pipefail
sources=$(mktemp); trap 'rm -f "$sources"' EXIT
targets() { apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' | awk '$1 == "Debian" && $4 == "main" { print "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]", $2, $3, "main" }' | sort -u; }
targets | grep -q . || apt-get update -qq
targets > "$sources"
mmdebstrap --quiet --variant=minbase --components=main --aptopt='Acquire::Languages "none"' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --include=systemd,systemd-sysv,udev,dbus,kmod,iproute2,procps,openssh-server,sudo,rpm,dnf,grub2-common,grub-pc-bin,dracut-core,libblkid1,libpopt0,curl,ca-certificates"$(printf ',%s' "${@:2}" | sed 's/,$//')" \
  bookworm "$1" "$sources"
