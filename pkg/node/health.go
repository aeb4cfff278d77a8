package node

import (
	"context"
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/text"
)

//go:embed health.sh
var healthScript string

// Health is how a node does, apart from the cluster's opinion of it. It is to be
// compared with the health of the same node at another time: nothing in it is good or
// bad by itself, and what the node has no tool for is absent.
type Health struct {
	// Failed are the units of systemd that have failed; Starting those that are on their
	// way up, or are about to be tried again, without those that timers start.
	Failed   []string
	Starting []string
	// Links are the network interfaces with hardware that are up. Addresses
	// ("eth0 10.0.0.5/24") are those of them and of what is stacked on them, without
	// virtual ones. Routes are the default routes ("default via 10.0.0.1 dev eth0").
	Links     []string
	Addresses []string
	Routes    []string
	// Services are the kubelet's and the container runtime's units that are active, with
	// their main processes.
	Services map[string]string
}

// ReadHealth reads it in one round trip.
func ReadHealth(ctx context.Context, r Runner, host string, become bool) (Health, error) {
	res, err := r.Run(ctx, host, sshexec.Command{Script: healthScript, Become: become, Timeout: 2 * time.Minute, Harmless: true})
	if err != nil {
		return Health{}, fmt.Errorf("cannot look at the health of %s: %w", host, err)
	}
	if !res.OK() {
		return Health{}, fmt.Errorf("cannot look at the health of %s: exit status %d: %s", host, res.ExitStatus, text.Printable(firstLine(string(res.Stderr))))
	}
	return ParseHealth(text.Printable(string(res.Stdout))), nil
}

// String is the health as it is printed there, for [ParseHealth]. Of a node that has
// nothing to tell it is not empty.
func (h Health) String() string {
	var b strings.Builder
	fmt.Fprintln(&b, "health")
	for _, list := range []struct {
		kind  string
		whats []string
	}{{"failed", h.Failed}, {"starting", h.Starting}, {"link", h.Links}, {"address", h.Addresses}, {"route", h.Routes}} {
		for _, what := range list.whats {
			fmt.Fprintln(&b, list.kind, what)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(h.Services)) {
		fmt.Fprintln(&b, "service", name, h.Services[name])
	}
	return b.String()
}

// ParseHealth reads what [Health.String] wrote.
func ParseHealth(text string) Health {
	h := Health{Services: map[string]string{}}
	lists := map[string]*[]string{"failed": &h.Failed, "starting": &h.Starting, "link": &h.Links, "address": &h.Addresses, "route": &h.Routes}
	for _, l := range lines(text) {
		kind, what, _ := strings.Cut(l, " ")
		if list, known := lists[kind]; known && what != "" {
			*list = append(*list, what)
		} else if name, pid, found := strings.Cut(what, " "); kind == "service" && found {
			h.Services[name] = pid
		}
	}
	for _, list := range lists {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return h
}

// Processes are the services' main processes, in one text: a service that is restarted
// over and over has another one each time.
func (h Health) Processes() string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(h.Services)) {
		out = append(out, name+"="+h.Services[name])
	}
	return strings.Join(out, " ")
}
