# fleetd-health: what a node's change of kernel has to leave as it was, a thing a line.
# It only reads.
LC_ALL=C; export LC_ALL
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin; export PATH

# A mark stands before the name of a unit that has failed.
units() { # units STATE
	systemctl list-units --all --full --no-pager --no-legend --state="$1" </dev/null |
		awk '{ print ($1 ~ /\./) ? $1 : $2 }'
}
for u in $(units failed); do echo "failed $u"; done
# What a timer starts may work at any moment.
starting=$(units activating)
[ -z "$starting" ] || systemctl show -p Id -p TriggeredBy $starting </dev/null |
	awk -v RS= '!/TriggeredBy=[^\n]*\.timer/ { sub(/.*Id=/, ""); sub(/\n.*/, ""); print "starting", $0 }'
systemctl show -p Id -p ActiveState -p MainPID kubelet.service containerd.service crio.service docker.service \
	cri-docker.service k3s.service k3s-agent.service rke2-server.service rke2-agent.service </dev/null |
	awk -v RS= '/ActiveState=active/ { id = pid = $0
		sub(/.*Id=/, "", id); sub(/\n.*/, "", id); sub(/.*MainPID=/, "", pid); sub(/\n.*/, "", pid); print "service", id, pid }'

# An interface with hardware below it, itself or below a bond, a bridge or a VLAN.
# What pods and overlays have comes and goes.
rests() { # rests SYSFS-FOLDER
	[ -e "$1/device" ] && return
	while read -r l; do
		case $l in DEVTYPE=vxlan|DEVTYPE=wireguard|DEVTYPE=geneve) return 1 ;; esac
	done <"$1/uevent"
	for l in "$1"/lower_*; do
		[ -e "$l" ] && ( rests "$(readlink -f "$l")" ) && return
	done
	return 1
}
names=' '
for i in /sys/class/net/*; do
	[ -r "$i/uevent" ] && rests "$i" || continue
	names="$names${i##*/} "
	# A function that a pod may have been given is no card of the node's.
	[ -e "$i/device" ] && [ ! -e "$i/device/physfn" ] && read -r state <"$i/operstate" || continue
	[ "$state" = down ] || echo "link ${i##*/}"
done
# A virtual address is where it is needed: keepalived's and kube-vip's have /32, or say
# whose they are.
ip -o addr show scope global </dev/null | awk -v names="$names" '
	{ sub(/@.*/, "", $2) }
	!index(names, " " $2 " ") || / (secondary|temporary|deprecated|tentative) / || /proto keepalived/ { next }
	$4 ~ /\/(32|128)$/ && !/ dynamic / { next }
	$3 ~ /^inet/ { print "address", $2, $4 }'
{ ip -o route show default; ip -o -6 route show default; } </dev/null | awk '
	{
		route = ""
		for (i = 1; i < NF; i++) {
			if ($i == "via" && !/proto ra/) route = route " via " $(i + 1)
			if ($i == "dev") route = route " dev " $(i + 1)
		}
		print "route default" route
	}'
exit 0
