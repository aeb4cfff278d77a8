package playbook

import (
	"maps"
	"slices"
	"strings"
	"testing/fstest"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/value"
)

// fakeInventory knows hosts by name, the groups that are given, and no other
// pattern but all and localhost.
type fakeInventory struct {
	hosts  []string
	groups map[string][]string
	vars   map[string]map[string]any
}

func (f *fakeInventory) Match(patterns ...string) ([]string, error) {
	var out []string
	for _, p := range patterns {
		switch {
		case p == "all":
			out = append(out, f.hosts...)
		case f.groups[p] != nil:
			out = append(out, f.groups[p]...)
		case p == rollout.Localhost || slices.Contains(f.hosts, p):
			out = append(out, p)
		}
	}
	return out, nil
}

func (f *fakeInventory) Limit(hosts []string, limit string) ([]string, error) {
	keep, err := f.Match(strings.Split(limit, ",")...)
	return slices.DeleteFunc(slices.Clone(hosts), func(h string) bool { return !slices.Contains(keep, h) }), err
}

func (f *fakeInventory) Vars(host string) (*value.Map, error) {
	if host != rollout.Localhost && !slices.Contains(f.hosts, host) {
		return nil, nil
	}
	groups := map[string]any{"all": toAny(f.hosts)}
	var names []string
	for g, hosts := range f.groups {
		groups[g] = toAny(hosts)
		if slices.Contains(hosts, host) {
			names = append(names, g)
		}
	}
	slices.Sort(names)
	out := map[string]any{"inventory_hostname": host, "inventory_hostname_short": host, "group_names": toAny(names), "groups": groups}
	maps.Copy(out, f.vars["all"])
	maps.Copy(out, f.vars[host])
	return vars(out), nil
}

// vars are variables given as a Go map.
func vars(m map[string]any) *value.Map { return jinja.Normalize(m).(*value.Map) }

// loadFiles loads site.yml of a few files.
func loadFiles(files map[string]string, opts Options) (*Playbook, error) {
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return Load(fsys, "site.yml", opts)
}

// testModules are parameters like those of fleetd's modules.
var testModules = map[string]rollout.Params{
	"fleetd.kernel.preflight": {
		"name": {Type: rollout.String}, "version": {Type: rollout.String, Help: "latest, or a version in quotes"},
		"enablerepo": {Type: rollout.String}, "minimum": {Type: rollout.String}, "ignore": {Type: rollout.Strings, Choices: []string{"kdump", "dkms"}},
	},
	"fleetd.kernel.package": {
		"name": {Type: rollout.String}, "version": {Type: rollout.String}, "enablerepo": {Type: rollout.String}, "minimum": {Type: rollout.String},
	},
	"fleetd.kernel.trial_boot":            {"timeout": {Type: rollout.Duration}},
	"fleetd.kernel.default":               {},
	"ansible.builtin.debug":               {"msg": {Type: rollout.Any}},
	"ansible.builtin.meta":                {"action": {Type: rollout.String, Required: true, FreeForm: true, Choices: []string{"end_host", "end_batch", "end_play", "reset_connection"}}},
	includeVars:                           {"file": {Type: rollout.File, FreeForm: true, Required: true, Folder: "vars"}},
	"fleetd.cluster.drain":                {"timeout": {Type: rollout.Duration}, "force": {Type: rollout.Bool}, "grace_period": {Type: rollout.Int}},
	"fleetd.cluster.ready":                {"timeout": {Type: rollout.Duration}},
	"fleetd.cluster.uncordon":             {"timeout": {Type: rollout.Duration}},
	"fleetd.calico.preflight":             {"linux_dataplane": {Type: rollout.String, Choices: []string{"BPF", "Iptables"}}, "api_host": {Type: rollout.String}, "api_port": {Type: rollout.Int}},
	"fleetd.calico.api_endpoint":          {"host": {Type: rollout.String}, "port": {Type: rollout.Int}, "state": {Type: rollout.String, Choices: []string{"present", "absent"}}},
	"fleetd.calico.kube_proxy":            {"state": {Type: rollout.String, Required: true, Choices: []string{"disabled", "enabled"}, Help: "disabled or enabled"}},
	"fleetd.calico.dataplane":             {"linux_dataplane": {Type: rollout.String, Required: true, Choices: []string{"BPF", "Iptables"}}},
	"fleetd.calico.external_service_mode": {"mode": {Type: rollout.String, Required: true, Choices: []string{"DSR", "Tunnel"}}},
	"fleetd.calico.verify":                {"linux_dataplane": {Type: rollout.String, Required: true, Choices: []string{"BPF", "Iptables"}}},
	"fleetd.bpf.object":                   {"name": {Type: rollout.String}, "objects": {Type: rollout.Strings}, "state": {Type: rollout.String, Choices: []string{"present", "absent"}}},
}
