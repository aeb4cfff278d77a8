#!/bin/bash
# mkkernels.sh FOLDER: two of Debian's cloud kernels, unpacked under FOLDER/old and FOLDER/new.
#
# old is the newest 5.10 of the release before the machine's, new the newest 6.1 of the machine's own.
# Both come from the Debian mirror that the machine's apt configuration names; that configuration is
# read and never changed. Package versions in a mirror move, so they are resolved here, not pinned.
# FOLDER/{old,new}.env then say DEB (Debian's uname -r) and VERSION (upstream version).
set -euo pipefail
dir=$1; mkdir -p "$dir"/apt/{etc/{apt.conf.d,preferences.d},state/lists/partial,cache/archives/partial}; cd "$dir"
key=/usr/share/keyrings/debian-archive-keyring.gpg
targets() { apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' | awk '$1 == "Debian" && $4 == "main" { print $2, $3 }' | sort -u; }
targets | grep -q . || apt-get update -qq
while read -r uri suite; do
  echo "deb [signed-by=$key] $uri $suite main"
  case $suite in bookworm|bookworm-security) echo "deb [signed-by=$key] $uri ${suite/bookworm/bullseye} main";; esac
done < <(targets) > apt/etc/sources.list
grep -q bullseye apt/etc/sources.list || { echo "cannot find Debian 12's repositories in this machine's apt configuration" >&2; exit 1; }
cat > apt/apt.conf <<X
Dir::Etc "$dir/apt/etc"; Dir::Etc::sourcelist "$dir/apt/etc/sources.list"; Dir::Etc::sourceparts "-";
Dir::State "$dir/apt/state"; Dir::State::status "/dev/null"; Dir::Cache "$dir/apt/cache";
APT::Sandbox::User "root"; APT::Architecture "amd64"; Acquire::Languages "none"; Acquire::Check-Valid-Until "false";
X
export APT_CONFIG=$dir/apt/apt.conf
apt-get update -qq
get() { # role series
  local package deb
  package=$(apt-cache search --names-only "^linux-image-${2//./\\.}\\.[0-9]+-[0-9]+-cloud-amd64\$" | awk '{ print $1 }' | sort -V | tail -1)
  [ -n "$package" ] || { echo "cannot find a linux-image-$2.*-cloud-amd64 in this machine's Debian mirror" >&2; exit 1; }
  deb=${package#linux-image-}
  apt-get download -qq "$package"
  dpkg-deb -x "${package}"_*.deb "$1"; rm -f "${package}"_*.deb
  echo "DEB=$deb VERSION=$(apt-cache show "$package" | awk '/^Version:/ { print $2; exit }' | sed 's/-.*//')" > "$1.env"
}
get old 5.10
get new 6.1
rm -rf apt
