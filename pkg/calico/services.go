package calico

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/probe"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// services is the section of localhost's state that holds the paths to Services
// which fleetd finds by itself.
var services = rollout.NewSection[found]("calico_services")

// found are paths to Services that stand as long as nobody changes a Service: no
// address of a pod is among them.
type found struct {
	Paths []probe.Path `json:"paths"`
	// DNS selects the pods in kube-system that serve names; "" = there is no such
	// Service.
	DNS string `json:"dns,omitempty"`
}

const (
	// mostServices bounds how many Services with a NodePort are asked for.
	mostServices = 3
	// servicesAtOnce bounds one answer of the API server.
	servicesAtOnce = 500
	dnsPort        = 53
)

type servicesObserver struct{ d Deps }

func (servicesObserver) Section() string { return services.Name() }

func (o servicesObserver) Observe(ctx context.Context, keys map[string][]string) map[string]rollout.SectionObservation {
	out := make(map[string]rollout.SectionObservation, len(keys))
	for host := range keys {
		f, err := findServices(ctx, o.d.Client)
		out[host] = cluster.Observation(f, err)
	}
	return out
}

func findServices(ctx context.Context, c *cluster.Client) (found, error) {
	if c == nil {
		return found{}, cluster.NotConfigured("list services")
	}
	var out found
	var open []corev1.Service
	o := metav1.ListOptions{Limit: servicesAtOnce}
	for {
		l, err := c.Kube.CoreV1().Services(metav1.NamespaceAll).List(ctx, o)
		if err != nil {
			return found{}, c.Explain(err, "list services")
		}
		for _, s := range l.Items {
			switch {
			case s.Namespace == metav1.NamespaceDefault && s.Name == "kubernetes":
				out.Paths = append(out.Paths, clusterIPs(s, 443, probe.HTTPS)...)
			case s.Namespace == metav1.NamespaceSystem && s.Labels["k8s-app"] == "kube-dns" && len(s.Spec.Selector) > 0 && out.DNS == "":
				out.DNS = labels.SelectorFromSet(s.Spec.Selector).String()
				out.Paths = append(out.Paths, clusterIPs(s, dnsPort, probe.DNSUDP, probe.DNSTCP, probe.DNSOpen)...)
				for _, proto := range []probe.Protocol{probe.DNSUDP, probe.DNSTCP, probe.DNSOpen} {
					out.Paths = append(out.Paths, probe.Path{Name: nameOf(s), Kind: probe.Pod, Protocol: proto, Port: dnsPodPort(s)})
				}
			case s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer:
				open = append(open, s)
			}
		}
		if o.Continue = l.Continue; o.Continue == "" {
			break
		}
	}
	slices.SortFunc(open, func(a, b corev1.Service) int { return cmp.Compare(nameOf(a), nameOf(b)) })
	taken := 0
	for _, s := range open {
		if paths := fromOutside(s); len(paths) > 0 && taken < mostServices {
			out.Paths = append(out.Paths, paths...)
			taken++
		}
	}
	return out, nil
}

func nameOf(s corev1.Service) string { return s.Namespace + "/" + s.Name }

// clusterIPs are the paths to each address of a Service inside of the cluster.
func clusterIPs(s corev1.Service, port int, protocols ...probe.Protocol) []probe.Path {
	var out []probe.Path
	ips := s.Spec.ClusterIPs
	if len(ips) == 0 {
		ips = []string{s.Spec.ClusterIP}
	}
	for _, ip := range ips {
		if _, err := netip.ParseAddr(ip); err != nil {
			continue // "None"
		}
		for _, proto := range protocols {
			out = append(out, probe.Path{Name: nameOf(s), Kind: probe.ClusterIP, Protocol: proto, Port: port}.At(ip))
		}
	}
	return out
}

// dnsPodPort is the port of the pods that serve names. One with a name only is the
// Service's.
func dnsPodPort(s corev1.Service) int {
	for _, p := range s.Spec.Ports {
		if p.Port == dnsPort && p.TargetPort.IntValue() > 0 {
			return p.TargetPort.IntValue()
		}
	}
	return dnsPort
}

// fromOutside are the ways to the first TCP port of a Service that is reached from
// outside of the cluster.
func fromOutside(s corev1.Service) []probe.Path {
	i := slices.IndexFunc(s.Spec.Ports, func(p corev1.ServicePort) bool {
		return p.NodePort > 0 && (p.Protocol == corev1.ProtocolTCP || p.Protocol == "")
	})
	if i < 0 {
		return nil
	}
	p := s.Spec.Ports[i]
	to := probe.Path{Name: nameOf(s), Protocol: probe.TCP, Port: int(p.NodePort)}
	var out []probe.Path
	for _, kind := range []probe.Kind{probe.NodePort, probe.Via} {
		to.Kind = kind
		out = append(out, to)
	}
	to.Kind, to.Port = probe.LoadBalancer, int(p.Port)
	for _, in := range s.Status.LoadBalancer.Ingress {
		if _, err := netip.ParseAddr(in.IP); err == nil {
			out = append(out, to.At(in.IP))
		}
	}
	return out
}

// dnsPods are the addresses of pods that serve names.
func dnsPods(ctx context.Context, c *cluster.Client, selector string) ([]string, error) {
	if selector == "" {
		return nil, nil
	}
	l, err := c.Kube.CoreV1().Pods(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, c.Explain(err, "list the pods that serve names")
	}
	var out []string
	for i := range l.Items {
		p := &l.Items[i]
		if _, err := netip.ParseAddr(p.Status.PodIP); err == nil && p.DeletionTimestamp == nil && cluster.NotReady(p) == "" {
			out = append(out, p.Status.PodIP)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}
