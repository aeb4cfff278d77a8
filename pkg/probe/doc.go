// Package probe asks Services, over and over, from many machines while the
// cluster's data plane changes, and judges what came of it: the longest time
// without an answer, path by path, and whether what answered before still does.
//
// It has no connection of its own. [Start], [Look] and [Stop] are scripts for a
// machine; what they print, [Parse] reads, and [Judge] sums the reports of all
// machines up. On a machine each path has a process that asks it, and ends by
// itself when its lease is over, or when another start takes its place: nothing is
// left where fleetd never comes back. All times on a machine are of its uptime,
// which no setting of a clock moves, and only differences leave it.
//
// What is not seen: a gap that is shorter than the time between two questions may
// fall between them, and a gap is told from the last answer before it to the first
// one after, so it is up to that much longer than the outage. kube-proxy's rules
// are counted in its iptables mode only; those of its nftables mode have no
// counters.
package probe
