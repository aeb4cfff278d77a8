package calico

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/fleetd/fleetd/pkg/rollout"
)

const addressHint = "set calico_api_host to the address of a load balancer or of a control-plane node"

// badEndpoint is why an address cannot be Calico's way to the API server. It is
// put into the variables of pods and dialed as host and port: what is no plain
// address and no name makes the operator crash at its next start.
func (f Facts) badEndpoint(e Endpoint) *rollout.Problem {
	refuse := func(why, hint string) *rollout.Problem {
		return &rollout.Problem{Message: fmt.Sprintf("cannot use %q as the API server's address: %s", e.Host, why), Hint: hint}
	}
	if e.Host == "" {
		return &rollout.Problem{
			Message: "cannot take kube-proxy's place: nothing tells Calico where the API server is",
			Hint:    "set calico_api_host (and calico_api_port) to an address that every node reaches without kube-proxy",
		}
	}
	if f.Installation.Automatic() {
		return f.endpointBesides()
	}
	if port, err := strconv.Atoi(e.Port); err != nil || port < 1 || port > 65535 {
		return refuse(fmt.Sprintf("its port %q is no TCP port", e.Port), "set calico_api_port to the API server's port")
	}
	ip, err := netip.ParseAddr(e.Host)
	if err != nil {
		return f.badName(e.Host, refuse)
	}
	switch ip = ip.Unmap(); {
	case ip.IsLoopback():
		return refuse("it is the loopback address, which is another machine on every node", addressHint)
	case ip.IsUnspecified() || ip.IsMulticast() || ip.IsLinkLocalUnicast():
		return refuse("no other machine can be reached at it", addressHint)
	}
	for _, text := range f.ServiceIPs {
		if service, err := netip.ParseAddr(text); err == nil && service.Unmap() == ip {
			return refuse("it is the ClusterIP of the kubernetes service, which nobody serves once kube-proxy is gone", addressHint)
		}
	}
	return nil
}

// badName is why a host that is no address cannot be used.
func (f Facts) badName(host string, refuse func(why, hint string) *rollout.Problem) *rollout.Problem {
	name := strings.TrimSuffix(strings.ToLower(host), ".")
	labels := strings.Split(name, ".")
	_, err := strconv.Atoi(labels[len(labels)-1])
	switch {
	case len(validation.IsDNS1123Subdomain(name)) > 0 || err == nil: // 10.31.90 is no name
		return refuse("it is no host name and no address", "calico_api_host is a bare name or address: without https://, without brackets, and the port goes into calico_api_port")
	case name == "localhost" || strings.HasSuffix(name, ".localhost"):
		return refuse("it is the loopback address, which is another machine on every node", addressHint)
	case name == "kubernetes" || strings.HasPrefix(name, "kubernetes.default"):
		return refuse("it is the name of the kubernetes service, which needs kube-proxy", addressHint)
	}
	return nil
}
