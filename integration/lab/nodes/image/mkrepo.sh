#!/bin/bash
# mkrepo.sh EL KERNELS OUT [kubernetes]: the signed yum repositories of one flavour, under OUT/www.
#
# base: the distribution's kernel (Debian's 5.10 under an EL name), the release package, grubby, a sample package.
# elrepo-kernel: the newest kernel-ml (Debian's 6.1), alone, as ELRepo has it, with its -devel, -headers and -tools.
# elrepo-kernel-archive: that one and one version before it (the same build under another name), as a site's mirror has them.
# OUT/kernels.env says the versions. With "kubernetes" the kernels have the modules that pods and Services need.
set -euo pipefail
export GPG_TTY=none # rpm's signing asks for one, and warns
here=$(cd "$(dirname "$0")" && pwd)
EL=$1 kernels=$2 out=$3 for=${4:-}; . "$here/flavours.sh"
mkdir -p "$out"; cd "$out"; rm -rf rpm www gpg
top=$out/rpm
mkdir -p rpm/{BUILD,RPMS,SPECS,SOURCES,BUILDROOT,k} www/elrepo-kernel{,-archive}/$EL/x86_64/RPMS www/base/$MAJOR/os/x86_64/Packages
mkdir -m 700 gpg
trap '[ ! -d "$out/gpg" ] || gpgconf --homedir "$out/gpg" --kill gpg-agent' EXIT # it would live on as a daemon
gpg --homedir gpg --batch --quiet --passphrase '' --quick-gen-key 'elrepo.org stand-in (lab) <nobody@invalid>' rsa2048 sign never 2>/dev/null
gpg --homedir gpg --armor --export > www/RPM-GPG-KEY-elrepo.org

build() { rpmbuild -bb --quiet --target x86_64 --define "_topdir $top" --define '__os_install_post %{nil}' --define '_build_id_links none' --define 'debug_package %{nil}' --define '_binary_payload w3.zstdio' "$1"; }

# The modules a virtio guest and the tests need; the whole set would triple the time of an install.
more=(); [ "$for" != kubernetes ] || more=(-o -path '*/net/netfilter/*' -o -path '*/net/ipv4/*' -o -path '*/net/ipv6/*' -o -path '*/net/bridge/*' -o -path '*/net/802/*' -o -path '*/net/llc/*' -o -path '*/fs/overlayfs/*')
modules() { (cd "$1"; find . \( -path '*/drivers/virtio/*' -o -path '*/drivers/net/virtio_net*' -o -path '*/drivers/net/net_failover*' -o -path '*/net/core/failover*' \
  -o -path '*/drivers/block/virtio_blk*' -o -path '*/drivers/net/veth*' -o -path '*/net/sched/*' -o -path '*/lib/*' -o -path '*/hw_random/*' \
  -o -name 'crc32c*' -o -name 'crct10dif*' -o -name 'i6300esb*' -o -name 'softdog*' -o -name 'modules.builtin*' -o -name modules.order "${more[@]}" \) -type f); }

# What ELRepo builds beside kernel-ml, of one file each: -devel is installed beside older ones, of the others one
# version can be there, and -tools needs the -tools-libs of its own build.
companions() { # name uname; "files" to install them
[ "$1" != kernel ] || return 0
if [ "${3:-}" = files ]; then cat <<S
for f in src/kernels/$2/Makefile include/linux/version.h bin/cpupower lib64/libcpupower.so.0; do install -D -m 644 /dev/null %{buildroot}/usr/\$f; done
S
return; fi
cat <<S
%package devel
Summary: What modules are built with
AutoReqProv: no
Provides: kernel-devel = %{version}-%{release}
Provides: installonlypkg(kernel) = %{version}-%{release}
%description devel
Headers and Makefiles.
%package headers
Summary: What C programs are built with
AutoReqProv: no
Provides: kernel-headers = %{version}-%{release}
%description headers
Headers.
%package tools
Summary: cpupower and its like
AutoReqProv: no
Requires: $1-tools-libs = %{version}-%{release}
%description tools
Tools.
%package tools-libs
Summary: Libraries of the tools
AutoReqProv: no
%description tools-libs
Libraries.
%files devel
/usr/src/kernels/$2
%files headers
/usr/include/linux/version.h
%files tools
/usr/bin/cpupower
%files tools-libs
/usr/lib64/libcpupower.so.0
S
}

# EL7's kernel: one package, registered by new-kernel-pkg.
spec_el7() { # name version release debian's-release uname modules-folder kernel-folder
cat <<S
Name: $1
Version: $2
Release: $3
Summary: The Linux kernel (Debian's $4 under an EL name)
License: GPLv2
AutoReqProv: no
Provides: kernel = %{version}-%{release}
Provides: kernel-uname-r = $5
Provides: $1-uname-r = $5
Provides: installonlypkg(kernel) = %{version}-%{release}
Requires(pre): coreutils
Requires(post): /sbin/new-kernel-pkg
Requires(preun): /sbin/new-kernel-pkg
%description
$1, for lab nodes.
%install
mkdir -p %{buildroot}/boot %{buildroot}/lib/modules/$5
cp $top/k/vmlinuz-$5 %{buildroot}/boot/vmlinuz-$5
cp $7/boot/config-$4 %{buildroot}/boot/config-$5
cp $7/boot/System.map-$4 %{buildroot}/boot/System.map-$5
tar -C $6 -cf - -T $top/k/modules-$5 | tar -C %{buildroot}/lib/modules/$5 -xf -
touch %{buildroot}/boot/initramfs-$5.img
$(companions "$1" "$5" files)
%files
/boot/vmlinuz-$5
/boot/config-$5
/boot/System.map-$5
%ghost /boot/initramfs-$5.img
/lib/modules/$5
%post
/sbin/new-kernel-pkg --package $1 --install $5 || exit \$?
%posttrans
/sbin/new-kernel-pkg --package $1 --mkinitrd --dracut --depmod --update $5 || exit \$?
/sbin/new-kernel-pkg --package $1 --rpmposttrans $5 || exit \$?
%preun
/sbin/new-kernel-pkg --rminitrd --rmmoddep --remove $5 || exit \$?
$(companions "$1" "$5")
S
}

# From EL8 on: core, modules and a package that requires both; kernel-install registers.
spec_bls() { # as spec_el7
local optional='^\./kernel/(net|drivers/net)/'
cat <<S
Name: $1
Version: $2
Release: $3
Summary: The Linux kernel (Debian's $4 under an EL name)
License: GPLv2
AutoReqProv: no
Provides: kernel = %{version}-%{release}
Provides: installonlypkg(kernel) = %{version}-%{release}
Requires: $1-core-uname-r = $5
Requires: $1-modules-uname-r = $5
%description
$1, for lab nodes.
%package core
Summary: The Linux kernel's image
AutoReqProv: no
Provides: kernel-core-uname-r = $5
Provides: $1-core-uname-r = $5
Provides: kernel-uname-r = $5
Provides: installonlypkg(kernel) = %{version}-%{release}
Requires(post): /usr/bin/kernel-install
Requires(preun): /usr/bin/kernel-install
%description core
The image.
%package modules
Summary: The Linux kernel's modules
AutoReqProv: no
Provides: kernel-modules-uname-r = $5
Provides: $1-modules-uname-r = $5
Provides: installonlypkg(kernel-module) = %{version}-%{release}
Requires: $1-core-uname-r = $5
%description modules
The modules.
%install
mkdir -p %{buildroot}/boot %{buildroot}/lib/modules/$5
cp $top/k/vmlinuz-$5 %{buildroot}/lib/modules/$5/vmlinuz
cp $7/boot/config-$4 %{buildroot}/lib/modules/$5/config
cp $7/boot/System.map-$4 %{buildroot}/lib/modules/$5/System.map
tar -C $6 -cf - -T $top/k/modules-$5 | tar -C %{buildroot}/lib/modules/$5 -xf -
for f in vmlinuz-$5 config-$5 System.map-$5 initramfs-$5.img; do touch %{buildroot}/boot/\$f; done
$(companions "$1" "$5" files)
%files
%files core
%ghost /boot/vmlinuz-$5
%ghost /boot/config-$5
%ghost /boot/System.map-$5
%ghost /boot/initramfs-$5.img
%dir /lib/modules/$5
/lib/modules/$5/vmlinuz
/lib/modules/$5/config
/lib/modules/$5/System.map
$(grep -vE "$optional" "$top/k/modules-$5" | sed "s,^\\.,/lib/modules/$5,")
%files modules
$(grep -E "$optional" "$top/k/modules-$5" | sed "s,^\\.,/lib/modules/$5,")
%posttrans core
/usr/bin/kernel-install add $5 /lib/modules/$5/vmlinuz || exit \$?
%preun core
/usr/bin/kernel-install remove $5 || exit \$?
$(companions "$1" "$5")
S
}

kernel() { # name version release role
  local uname="$2-$3.x86_64" dir=$kernels/$4 DEB VERSION m
  . "$kernels/$4.env"
  for m in "$dir/lib/modules/$DEB" "$dir/usr/lib/modules/$DEB"; do [ ! -d "$m" ] || break; done
  "$here/utspatch.py" "$dir/boot/vmlinuz-$DEB" "$top/k/vmlinuz-$uname" "$DEB" "$uname"
  modules "$m" > "$top/k/modules-$uname"
  if [ $BLS = 1 ]; then spec_bls "$1" "$2" "$3" "$DEB" "$uname" "$m" "$dir"; else spec_el7 "$1" "$2" "$3" "$DEB" "$uname" "$m" "$dir"; fi > "$top/SPECS/$1-$2.spec"
  build "$top/SPECS/$1-$2.spec"
}

old=$(. "$kernels/old.env"; echo "$VERSION") new=$(. "$kernels/new.env"; echo "$VERSION")
previous=${new%.*}.$((${new##*.}-1))
pids=()
kernel kernel    "$old"      1.$EL        old & pids+=($!)
kernel kernel-ml "$new"      1.$EL.elrepo new & pids+=($!)
kernel kernel-ml "$previous" 1.$EL.elrepo new & pids+=($!)

cat > rpm/SPECS/release.spec <<S
Name: $ID-release
Version: $MAJOR
Release: 1.$EL.standin
Summary: What an EL node's rpm database says is there, said by a stand-in
License: Apache-2.0
AutoReqProv: no
Provides: system-release = $VERSION_ID
Provides: system-release(releasever) = $MAJOR
Provides: redhat-release = $VERSION_ID
Provides: /bin/sh
Provides: coreutils
Provides: bash
Provides: kmod
%description
stand-in
%install
mkdir -p %{buildroot}/etc
echo '$RELEASE' > %{buildroot}/etc/$ID-release
for l in redhat-release system-release centos-release; do [ -e %{buildroot}/etc/\$l ] || ln -s $ID-release %{buildroot}/etc/\$l; done
%files
/etc/*-release
S
if [ $BLS = 1 ]; then tools="grubby:grubby.bls installkernel kernel-install"; else tools="grubby:grubby.el7 installkernel new-kernel-pkg"; fi
{
cat <<S
Name: grubby
Version: 8.40
Release: 1.$EL.standin
Summary: grubby and its companions for lab nodes: stand-ins
License: Apache-2.0
AutoReqProv: no
Provides: /sbin/grubby
Provides: /sbin/new-kernel-pkg
%description
stand-ins
%install
mkdir -p %{buildroot}/usr/sbin %{buildroot}/usr/bin
S
for t in $tools; do d=sbin; [ "$t" != kernel-install ] || d=bin; echo "install -m 755 $here/guest/${t#*:} %{buildroot}/usr/$d/${t%:*}"; done
echo %files
for t in $tools; do d=sbin; [ "$t" != kernel-install ] || d=bin; echo "/usr/$d/${t%:*}"; done
} > rpm/SPECS/grubby.spec
for v in 1.0 2.0; do cat > rpm/SPECS/sample-$v.spec <<S
Name: fleetd-lab-sample
Version: $v
Release: 1.$EL
Summary: A package with one file, for tests of package modules
License: Apache-2.0
BuildArch: noarch
AutoReqProv: no
%description
One file.
%install
mkdir -p %{buildroot}/usr/share
echo $v > %{buildroot}/usr/share/fleetd-lab-sample
%files
/usr/share/fleetd-lab-sample
S
done
for s in release grubby; do build rpm/SPECS/$s.spec; done
for v in 1.0 2.0; do rpmbuild -bb --quiet --define "_topdir $top" rpm/SPECS/sample-$v.spec; done
for p in "${pids[@]}"; do wait "$p"; done

GNUPGHOME=$out/gpg rpmsign --define '__gpg /usr/bin/gpg' --define '_gpg_name elrepo.org stand-in' --addsign rpm/RPMS/*/*.rpm >/dev/null
mv rpm/RPMS/x86_64/kernel-ml*-"$new"-* www/elrepo-kernel/$EL/x86_64/RPMS/
cp -l www/elrepo-kernel/$EL/x86_64/RPMS/* www/elrepo-kernel-archive/$EL/x86_64/RPMS/
mv rpm/RPMS/x86_64/kernel-ml*-"$previous"-* www/elrepo-kernel-archive/$EL/x86_64/RPMS/
mv rpm/RPMS/*/*.rpm www/base/$MAJOR/os/x86_64/Packages/
for r in www/elrepo-kernel/$EL/x86_64 www/elrepo-kernel-archive/$EL/x86_64 www/base/$MAJOR/os/x86_64; do createrepo_c -q "$r"; done
cat > kernels.env <<X
BASE=$old-1.$EL.x86_64
ML=$new-1.$EL.elrepo.x86_64
ML_PREVIOUS=$previous-1.$EL.elrepo.x86_64
X
gpgconf --homedir gpg --kill gpg-agent
rm -rf rpm gpg
