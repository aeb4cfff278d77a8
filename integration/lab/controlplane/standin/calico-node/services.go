package main

import (
	"cmp"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// The chains of carried, of the table nat.
const (
	toServices  = "STANDIN-SERVICES"
	fromOutside = "STANDIN-POSTROUTING"
)

// hooks are where packets come into the chains.
var hooks = [][]string{{"PREROUTING", toServices}, {"OUTPUT", toServices}, {"POSTROUTING", fromOutside}}

// nowhere is where nobody answers (RFC 5737).
const nowhere = "192.0.2.1"

// carried is a STAND-IN for the eBPF data plane's way with Services: rules of iptables
// that are met before kube-proxy's. True in it: Services answer although kube-proxy is
// gone, its rules that stay behind are met no more, and what is here follows the
// cluster. Not so: the first ready endpoint of a port has all of it, the client's address
// is lost on the way from outside, kube-proxy's rules are never cleared, and only IPv4,
// cluster addresses and NodePorts are known.
type carried struct{ now string }

type service struct {
	Metadata struct{ Namespace, Name string }
	Spec     struct {
		ClusterIP string
		Ports     []struct {
			Name, Protocol string
			Port, NodePort int
		}
	}
}

type endpointSlice struct {
	Metadata struct {
		Namespace string
		Labels    map[string]string
	}
	AddressType string
	Endpoints   []struct {
		Addresses  []string
		Conditions struct{ Ready *bool }
	}
	Ports []struct {
		Name string
		Port int
	}
}

// carry makes the rules what the cluster's Services ask for.
func (c *carried) carry(api *client) error {
	services, ends, err := api.services()
	if err != nil {
		return err
	}
	return c.write(rulesOf(services, ends))
}

// carryNowhere leads every Service to where nobody answers.
func (c *carried) carryNowhere(api *client) error {
	services, ends, err := api.services()
	if err != nil {
		return err
	}
	for i := range ends {
		for j := range ends[i].Endpoints {
			ends[i].Endpoints[j].Addresses = []string{nowhere}
		}
	}
	return c.write(rulesOf(services, ends))
}

func (c *carried) write(rules string) error {
	if rules == c.now {
		return nil
	}
	if err := iptables("iptables-restore", rules, "--noflush", "--wait"); err != nil {
		return err
	}
	if c.now == "" {
		for _, h := range hooks {
			if iptables("iptables", "", "-w", "-t", "nat", "-C", h[0], "-j", h[1]) == nil {
				continue
			}
			if err := iptables("iptables", "", "-w", "-t", "nat", "-I", h[0], "1", "-j", h[1]); err != nil {
				return err
			}
		}
	}
	c.now = rules
	return nil
}

// carryNoMore takes the rules away.
func (c *carried) carryNoMore() error {
	for _, h := range hooks {
		// What is not there needs no taking away; what is there holds its chain.
		_ = iptables("iptables", "", "-w", "-t", "nat", "-D", h[0], "-j", h[1])
	}
	c.now = ""
	return iptables("iptables-restore", fmt.Sprintf("*nat\n:%[1]s - [0:0]\n:%[2]s - [0:0]\n-X %[1]s\n-X %[2]s\nCOMMIT\n", toServices, fromOutside), "--noflush", "--wait")
}

func iptables(program, stdin string, args ...string) error {
	c := exec.Command(program, args...)
	c.Stdin = strings.NewReader(stdin)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// rulesOf is what iptables-restore reads.
func rulesOf(services []service, ends []endpointSlice) string {
	services = slices.SortedFunc(slices.Values(services), func(a, b service) int {
		return cmp.Or(cmp.Compare(a.Metadata.Namespace, b.Metadata.Namespace), cmp.Compare(a.Metadata.Name, b.Metadata.Name))
	})
	var b strings.Builder
	fmt.Fprintf(&b, "*nat\n:%s - [0:0]\n:%s - [0:0]\n", toServices, fromOutside)
	for _, s := range services {
		if !strings.Contains(s.Spec.ClusterIP, ".") {
			continue // headless, of another family, or a name only
		}
		for _, p := range s.Spec.Ports {
			proto := strings.ToLower(cmp.Or(p.Protocol, "TCP"))
			to := endpointOf(s, p.Name, ends)
			if to == "" {
				continue
			}
			match := fmt.Sprintf("-p %s -m %s --dport ", proto, proto)
			fmt.Fprintf(&b, "-A %s -d %s/32 %s%d -j DNAT --to-destination %s\n", toServices, s.Spec.ClusterIP, match, p.Port, to)
			if p.NodePort > 0 {
				fmt.Fprintf(&b, "-A %s -m addrtype --dst-type LOCAL %s%d -j DNAT --to-destination %s\n", toServices, match, p.NodePort, to)
				// The answer has to come back through this node.
				fmt.Fprintf(&b, "-A %s -p %s -m conntrack --ctstate DNAT --ctorigdstport %d -j MASQUERADE\n", fromOutside, proto, p.NodePort)
			}
		}
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

// endpointOf is the first ready endpoint of a Service's port, "" without one.
func endpointOf(s service, port string, ends []endpointSlice) string {
	var all []string
	for _, e := range ends {
		if e.AddressType != "IPv4" || e.Metadata.Namespace != s.Metadata.Namespace || e.Metadata.Labels["kubernetes.io/service-name"] != s.Metadata.Name {
			continue
		}
		for _, p := range e.Ports {
			if p.Name != port {
				continue
			}
			for _, end := range e.Endpoints {
				if (end.Conditions.Ready == nil || *end.Conditions.Ready) && len(end.Addresses) > 0 {
					all = append(all, end.Addresses[0]+":"+strconv.Itoa(p.Port))
				}
			}
		}
	}
	if len(all) == 0 {
		return ""
	}
	return slices.Min(all)
}

func (c *client) services() ([]service, []endpointSlice, error) {
	var services struct{ Items []service }
	var ends struct{ Items []endpointSlice }
	// From the API server's cache: this is asked all the time.
	if err := c.get("/api/v1/services?resourceVersion=0", &services); err != nil {
		return nil, nil, err
	}
	err := c.get("/apis/discovery.k8s.io/v1/endpointslices?resourceVersion=0", &ends)
	return services.Items, ends.Items, err
}
