package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/view"
)

// reach is how the hosts and the cluster of a run are got at. The journal keeps
// it, without secrets, so that a run can be resumed or undone when the inventory
// has changed or is gone, and from any folder.
type reach struct {
	Targets map[string]sshexec.Target `json:"targets"`
	// Beside are those of them that no step works on: the steps about Calico ask
	// every node.
	Beside []string `json:"beside,omitempty"`
	// Nodes is how each host finds its Node.
	Nodes map[string]cluster.HostRef `json:"nodes,omitempty"`
	// ControlPlane are the hosts of the inventory's group.
	ControlPlane []string `json:"control_plane,omitempty"`
	// Kubeconfig is "" where the run has no cluster.
	Kubeconfig string `json:"kubeconfig,omitempty"`
	// KubeVia, unless nil, is the host through which the API server is reached.
	KubeVia *sshexec.Target `json:"kube_via,omitempty"`
}

// absolute is the same from any folder.
func (r reach) absolute() (reach, error) {
	targets := make(map[string]sshexec.Target, len(r.Targets))
	for h, t := range r.Targets {
		a, err := t.Absolute()
		if err != nil {
			return r, err
		}
		targets[h] = a
	}
	r.Targets = targets
	if r.KubeVia != nil {
		via, err := r.KubeVia.Absolute()
		if err != nil {
			return r, err
		}
		r.KubeVia = &via
	}
	if r.Kubeconfig != "" {
		files := filepath.SplitList(r.Kubeconfig)
		for i, f := range files {
			a, err := filepath.Abs(f)
			if err != nil {
				return r, fmt.Errorf("cannot find the kubeconfig %s: %w", f, err)
			}
			files[i] = a
		}
		r.Kubeconfig = strings.Join(files, string(filepath.ListSeparator))
	}
	return r, nil
}

// bind makes every connection from now on refuse another machine than the one
// that the plan was made for.
func (r reach) bind(p *rollout.Plan) {
	for h, t := range r.Targets {
		if key := p.Bound[h]["host_key"]; key != "" {
			t.HostKey = key
			r.Targets[h] = t
		}
	}
}

// hosts are those of the inventory, without the cluster.
func (r reach) hosts() []string { return slices.Sorted(maps.Keys(r.Targets)) }

// worked are the hosts that steps work on.
func (r reach) worked() []string {
	return slices.DeleteFunc(r.hosts(), func(h string) bool { return slices.Contains(r.Beside, h) })
}

// readReach is the reach that the journal kept, with the secrets that it did not.
func readReach(c *cobra.Command, f *fleetFlags, raw []byte) (reach, error) {
	var r reach
	if err := json.Unmarshal(raw, &r); err != nil {
		return r, fmt.Errorf("the journal does not say how the hosts are reached: %w", err)
	}
	return r, r.giveSecrets(c, f)
}

// giveSecrets adds the passwords that a journal does not keep: as -k and -K are
// answered, or as an inventory that is given has them.
func (r reach) giveSecrets(c *cobra.Command, f *fleetFlags) error {
	secrets := map[string]sshexec.Target{}
	if len(f.inventories) > 0 {
		hosts := r.hosts()
		if r.KubeVia != nil {
			hosts = append(hosts, r.KubeVia.Name)
		}
		fresh, err := inventoryTargets(c, f, hosts)
		if err != nil {
			return err
		}
		secrets = fresh
	}
	asked, err := askPasswords(c, f)
	if err != nil {
		return err
	}
	var missing []string
	for h, t := range r.Targets {
		t.Password, t.Become.Password = cmp.Or(asked.login, secrets[h].Password), cmp.Or(asked.become, secrets[h].Become.Password)
		if t.NeedsPassword && t.Password == "" || t.NeedsBecomePassword && t.Become.Password == "" {
			missing = append(missing, h)
		}
		r.Targets[h] = t
	}
	if via := r.KubeVia; via != nil {
		via.Password = cmp.Or(asked.login, secrets[via.Name].Password)
		if via.NeedsPassword && via.Password == "" {
			missing = append(missing, via.Name)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return &rollout.Problem{
			Message: fmt.Sprintf("cannot log in to %s: a password is needed, and the journal keeps none", view.HostRange(missing)),
			Hint:    "give -k (SSH password) or -K (sudo password), or -i INVENTORY to take them from there",
		}
	}
	return nil
}

// inventoryTargets are the targets of those hosts that the given inventory has.
func inventoryTargets(c *cobra.Command, f *fleetFlags, hosts []string) (map[string]sshexec.Target, error) {
	quiet := *f
	quiet.askPass, quiet.askBecomePass = false, false // asked for all hosts, once
	inv, cfg, err := readInventory(c, &quiet, f.inventories, "")
	if err != nil {
		return nil, err
	}
	vars, err := newResolver(inv)
	if err != nil {
		return nil, err
	}
	known := slices.DeleteFunc(slices.Clone(hosts), func(h string) bool { return !slices.Contains(inv.Hosts(), h) })
	if len(known) == 0 {
		return nil, errors.New("the inventory that is given has none of the run's hosts")
	}
	return targetsOf(c, &quiet, inv, vars, cfg.Connection, known, nil)
}
