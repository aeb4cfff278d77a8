package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/pkg/journal"
)

func newUnlock() *cobra.Command {
	f := &fleetFlags{}
	c := &cobra.Command{
		Use:   "unlock RUN",
		Short: "Take the cluster's lock from a run whose fleetd is gone for good",
		Long: `Unlock removes the Lease with which a run keeps other bastions away from the
cluster. A fleetd that was killed leaves it behind, because its run may have left
nodes drained: fleetd resume RUN, on the bastion of the run, is the better way.
The run's ID has to be given, so that nobody takes the lock from another run than
the one that was looked at.

The cluster is reached as the run reached it, where its journal is here; from another
bastion as --kubeconfig says, through the host of the inventory that --kube-via names.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("which run? fleetd unlock RUN: the message that refuses a run names the one that holds the cluster")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return runUnlock(c, f, args[0]) },
	}
	f.addConnection(c)
	f.addState(c)
	f.addVault(c)
	fs := c.Flags()
	fs.StringArrayVarP(&f.inventories, "inventory", "i", nil, "inventory that has the host of --kube-via, or the passwords of the run's (repeatable)")
	fs.StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster (else the run's own, if it is of this bastion, else KUBECONFIG)")
	fs.StringVar(&f.kubeVia, "kube-via", "", "host of the inventory through which the API server is reached, by SSH (else the run's own, with its kubeconfig)")
	return c
}

func runUnlock(c *cobra.Command, f *fleetFlags, run string) error {
	if err := f.check(); err != nil {
		return err
	}
	dir, err := f.stateDir()
	if err != nil {
		return err
	}
	if journal.Exists(dir) {
		holder, held, err := journal.Holder(dir)
		if err != nil {
			return err
		}
		if held && holder == run {
			return fmt.Errorf("run %s is being worked on by a fleetd on this machine: interrupt that one", run)
		}
	}
	r, err := clusterOf(c, f, run)
	if err != nil {
		return err
	}
	fl, err := wire(c, f, r)
	if err != nil {
		return err
	}
	defer fl.close()
	if err := fl.client.Unlock(c.Context(), run); err != nil {
		return err
	}
	fmt.Fprintf(c.OutOrStdout(), "Run %s no longer holds the cluster.\n", run)
	return nil
}

// clusterOf is how the cluster of a run is reached, of which there may be no journal
// here.
func clusterOf(c *cobra.Command, f *fleetFlags, run string) (reach, error) {
	var r reach
	if f.kubeconfig == "" {
		if j, err := f.readJournal(); err == nil {
			defer j.Close()
			if raw, err := j.Reach(c.Context(), run); err == nil {
				if err := json.Unmarshal(raw, &r); err != nil {
					return r, fmt.Errorf("the journal does not say how the cluster is reached: %w", err)
				}
				r = reach{Kubeconfig: r.Kubeconfig, KubeVia: r.KubeVia} // no host is asked for
			}
		}
	}
	r.Kubeconfig = cmp.Or(f.kubeconfig, r.Kubeconfig, os.Getenv("KUBECONFIG"))
	if r.Kubeconfig == "" {
		return r, errors.New("which cluster? Give --kubeconfig, or set KUBECONFIG")
	}
	switch {
	case f.kubeVia != "":
	case r.KubeVia != nil:
		return r, r.giveSecrets(c, f)
	default:
		return r, nil
	}
	inv, cfg, err := readInventory(c, f, f.inventories, "")
	if err != nil {
		return r, err
	}
	if err := checkKubeVia(f.kubeVia, inv, nil); err != nil {
		return r, err
	}
	vars, err := newResolver(inv)
	if err != nil {
		return r, err
	}
	targets, err := targetsOf(c, f, inv, vars, cfg.Connection, []string{f.kubeVia}, nil)
	via := targets[f.kubeVia]
	r.KubeVia = &via
	return r, err
}
