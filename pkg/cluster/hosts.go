package cluster

// HostsOf finds the host of each Node, by the Node's name. A Node without one
// has no entry, nor has one that two hosts claim.
func HostsOf(nodes []Node, refs map[string]HostRef) map[string]string {
	hosts := make([]string, 0, len(refs))
	for h := range refs {
		hosts = append(hosts, h)
	}
	out := map[string]string{}
	for h, m := range matchNodes(hosts, refs, nodes) {
		if m.err == nil && m.node.Name != "" {
			out[m.node.Name] = h
		}
	}
	return out
}
