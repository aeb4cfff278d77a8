fact() { # fact NAME COMMAND...: what it prints, in hexadecimal
	printf 'note %s ' "$1"; shift
	"$@" </dev/null 2>/dev/null | hex
	echo
}
words() { printf '%s\n' "$@"; }
release() { cat /etc/os-release || cat /usr/lib/os-release; }
has() { command -v "$1" >/dev/null && echo y; }
fact machine uname -m
fact node uname -n
fact kernel uname -r
fact version uname -v
fact fqdn hostname -f
fact release release
fact redhat cat /etc/redhat-release
fact debian cat /etc/debian_version
fact dnf has dnf
fact yum has yum
fact apt has apt-get
fact zypper has zypper
fact init cat /proc/1/comm
fact cpu cat /proc/cpuinfo
fact nproc nproc
fact memory cat /proc/meminfo
fact uptime cat /proc/uptime
fact load cat /proc/loadavg
fact cmdline cat /proc/cmdline
fact machine_id cat /etc/machine-id
fact user id -un
fact uid id -u
fact ruid id -ru
fact gid id -g
fact rgid id -rg
fact passwd getent passwd "$(id -u)"
fact fips cat /proc/sys/crypto/fips_enabled
fact selinux words "$([ -d /sys/fs/selinux/booleans ] && cat /sys/fs/selinux/enforce)" "$(sed -n 's/^SELINUX=//p' /etc/selinux/config)" "$(sed -n 's/^SELINUXTYPE=//p' /etc/selinux/config)" "$(cat /sys/fs/selinux/policyvers)"
fact resolv cat /etc/resolv.conf
fact date date '+%Y %m %d %H %M %S %s %Z %z %A %w %U'
fact utc date -u '+%Y-%m-%dT%H:%M:%SZ'
fact address4 ip -o -4 addr show
fact address6 ip -o -6 addr show
fact link ip -o link show
fact route4 ip -4 route get 8.8.8.8
