package main

import (
	"fmt"
	"strings"
)

// answer answers the three questions that an engineer asks about the eBPF data plane
// (counters, conntrack, routes), in the layout of calico-node 3.29 and with invented
// numbers: there is no data plane. True in it: it refuses while FelixConfiguration says
// that eBPF is off, and its routes name the cluster's nodes. It is no measure for a
// parser of the real output.
func answer(question string) error {
	api, err := connect()
	if err != nil {
		return err
	}
	on, err := api.bpfEnabled()
	if err != nil {
		return err
	}
	if !on {
		return fmt.Errorf("no BPF maps: bpfEnabled is not true in FelixConfiguration default")
	}
	switch words := strings.Fields(question); {
	case strings.HasPrefix(question, "-bpf counters dump"):
		iface := ""
		for i, w := range words {
			if v, ok := strings.CutPrefix(w, "--iface="); ok {
				iface = v
			} else if w == "--iface" && i+1 < len(words) {
				iface = words[i+1]
			}
		}
		counters(iface)
	case strings.HasPrefix(question, "-bpf conntrack dump"):
		fmt.Println("TCP 10.0.0.4:43240 -> 10.96.0.1:443 -> 10.0.0.3:6443  external client, service forwarded  Age: 12.5s Active ago 1.5s ESTABLISHED")
		fmt.Println("UDP 10.244.1.5:52758 -> 10.244.2.3:53  Age: 3.1s Active ago 3.1s")
	case strings.HasPrefix(question, "-bpf routes dump"):
		return api.routes()
	default:
		return fmt.Errorf("cannot answer %q: only -bpf counters, conntrack and routes", question)
	}
	return nil
}

func counters(iface string) {
	if iface == "" {
		fmt.Println("===== Interface: eth0 =====")
	}
	const line = "+----------+--------------------------------+---------+--------+-----+"
	fmt.Println(line)
	fmt.Println("| CATEGORY |              TYPE              | INGRESS | EGRESS | XDP |")
	fmt.Println(line)
	for _, r := range []struct {
		category, kind string
		in, out, xdp   int
	}{
		{"Accepted", "by another program", 0, 0, 0},
		{"", "by failsafe", 0, 2, 23},
		{"", "by policy", 1, 0, 0},
		{"Dropped", "by policy", 0, 0, 0},
		{"", "failed decapsulation", 0, 0, 0},
		{"", "failed encapsulation", 0, 0, 0},
		{"", "incorrect checksum", 0, 0, 0},
		{"", "malformed IP packets", 0, 0, 0},
		{"", "packets with unknown route", 0, 0, 0},
		{"", "packets with unknown source", 0, 0, 0},
		{"", "too short packets", 0, 0, 0},
		{"Total", "packets", 1593, 1162, 23},
	} {
		fmt.Printf("| %-8s | %-30s | %7d | %6d | %3d |\n", r.category, r.kind, r.in, r.out, r.xdp)
	}
	fmt.Println(line)
}

func (c *client) routes() error {
	var nodes struct {
		Items []struct {
			Spec   struct{ PodCIDR string }
			Status struct {
				Addresses []struct{ Type, Address string }
			}
		}
	}
	if err := c.get("/api/v1/nodes", &nodes); err != nil {
		return err
	}
	for _, n := range nodes.Items {
		for _, a := range n.Status.Addresses {
			if a.Type != "InternalIP" {
				continue
			}
			fmt.Printf("%18s: remote host\n", a.Address+"/32")
			if n.Spec.PodCIDR != "" {
				fmt.Printf("%18s: remote workload in-pool nat-out tunneled nh %s\n", n.Spec.PodCIDR, a.Address)
			}
		}
	}
	return nil
}
