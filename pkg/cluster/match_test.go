package cluster

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/fleetd/fleetd/pkg/rollout"
)

func TestMatchNodes(t *testing.T) {
	nodes := []Node{
		{Name: "el-0001", InternalIPs: []string{"10.0.0.1"}},
		{Name: "el-0002", InternalIPs: []string{"10.0.0.2", "fd00::2"}},
		{Name: "ip-10-0-0-3", InternalIPs: []string{"10.0.0.3"}},
	}
	refs := map[string]HostRef{
		"el-0001": {Addresses: []string{"10.0.0.2"}}, // its own name wins over an address
		"web":     {NodeName: "ip-10-0-0-3"},
		"v6":      {Addresses: []string{"nat.example.org", "[FD00:0:0::2]"}},
		"local":   {Addresses: []string{"127.0.0.1", ""}},
		"gone":    {NodeName: "el-0099", Addresses: []string{"10.0.0.1"}},
	}
	got := matchNodes([]string{"EL-0001", "v6", "web", "local", "gone", "unknown"}, refs, nodes)
	for h, want := range map[string]string{"EL-0001": "el-0001", "v6": "el-0002", "web": "ip-10-0-0-3", "local": "", "unknown": ""} {
		if got[h].err != nil || got[h].node.Name != want {
			t.Errorf("%s: %+v, want %q", h, got[h], want)
		}
	}
	if p := rollout.AsProblem(got["gone"].err); !strings.Contains(p.Message, `kubernetes_node_name says "el-0099"`) {
		t.Errorf("%+v", p)
	}
	got = matchNodes([]string{"el-0001", "alias"}, map[string]HostRef{"alias": {Addresses: []string{"10.0.0.1"}}}, nodes)
	for _, h := range []string{"el-0001", "alias"} {
		if err := got[h].err; err == nil || !strings.Contains(err.Error(), "el-0001 both are Node el-0001") && !strings.Contains(err.Error(), "alias and el-0001 both are") {
			t.Errorf("%s: %v", h, err)
		}
	}
}

// No Node is ever the Node of two hosts, and every host that was asked has an
// answer.
func TestNodeBelongsToOneHost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var nodes []Node
		for i := range rapid.IntRange(0, 4).Draw(t, "nodes") {
			nodes = append(nodes, Node{Name: fmt.Sprintf("n%d", i), InternalIPs: []string{fmt.Sprintf("10.0.0.%d", i)}})
		}
		var hosts []string
		refs := map[string]HostRef{}
		for i := range rapid.IntRange(1, 6).Draw(t, "hosts") {
			h := rapid.SampledFrom([]string{fmt.Sprintf("n%d", i), fmt.Sprintf("h%d", i)}).Draw(t, "name")
			hosts = append(hosts, h)
			refs[h] = HostRef{
				NodeName:  rapid.SampledFrom([]string{"", "", "n0", "n1", "gone"}).Draw(t, "node name"),
				Addresses: []string{fmt.Sprintf("10.0.0.%d", rapid.IntRange(0, 5).Draw(t, "address"))},
			}
		}
		seen := map[string]string{}
		got := matchNodes(hosts, refs, nodes)
		for _, h := range hosts {
			m, ok := got[h]
			if !ok {
				t.Fatalf("no answer for %s", h)
			}
			if m.err != nil || m.node.Name == "" {
				continue
			}
			if other := seen[m.node.Name]; other != "" {
				t.Fatalf("%s and %s both are %s", other, h, m.node.Name)
			}
			seen[m.node.Name] = h
		}
	})
}
