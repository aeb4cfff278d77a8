// A STAND-IN for calico-node, not calico-node.
//
// kwok runs it when somebody execs `calico-node -bpf …` in a calico-node pod of
// the lab. It answers the three questions that fleetd asks about the eBPF data
// plane (counters, conntrack, routes) in the layout of calico-node 3.29, with
// invented numbers: there is no data plane on a kwok node. What is true in its
// answers: it refuses while FelixConfiguration says that eBPF is off, and its
// routes name the cluster's nodes. It shows nothing about a real data plane and
// is no measure for a parser of the real output.
//
// `calico-node -felix` is a machine's Felix (felix.go).
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	question := strings.Join(args, " ")
	if question == "-felix" {
		return felix()
	}
	if !strings.HasPrefix(question, "-bpf ") {
		return fmt.Errorf("stand-in calico-node: cannot answer %q: only -bpf counters, conntrack and routes", question)
	}
	dir := os.Getenv("FLEETD_LAB_DIR")
	if dir == "" {
		return fmt.Errorf("stand-in calico-node: FLEETD_LAB_DIR is not set: it runs inside a lab only")
	}
	pki := filepath.Join(dir, "pki")
	api, err := connect("https://127.0.0.1:16443", filepath.Join(pki, "ca.crt"), filepath.Join(pki, "calico-node.crt"), filepath.Join(pki, "calico-node.key"))
	if err != nil {
		return fmt.Errorf("stand-in calico-node: %w", err)
	}
	on, err := api.bpfEnabled()
	if err != nil {
		return fmt.Errorf("stand-in calico-node: %w", err)
	}
	if !on {
		return fmt.Errorf("stand-in calico-node: no BPF maps: bpfEnabled is not true in FelixConfiguration default")
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
		return fmt.Errorf("stand-in calico-node: cannot answer %q", question)
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

type client struct {
	http   *http.Client
	server string
}

func connect(server, caFile, cert, key string) (*client, error) {
	ca, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &client{
		server: server,
		http: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}},
		}},
	}, nil
}

func (c *client) get(path string, into any) error {
	resp, err := c.http.Get(c.server + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

func (c *client) bpfEnabled() (bool, error) {
	var felix struct {
		Spec struct {
			BPFEnabled bool `json:"bpfEnabled"`
		} `json:"spec"`
	}
	err := c.get("/apis/crd.projectcalico.org/v1/felixconfigurations/default", &felix)
	return felix.Spec.BPFEnabled, err
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
