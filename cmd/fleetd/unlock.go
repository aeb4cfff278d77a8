package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/pkg/cluster"
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
the one that was looked at.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("which run? fleetd unlock RUN: the message that refuses a run names the one that holds the cluster")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return runUnlock(c, f, args[0]) },
	}
	f.addState(c)
	c.Flags().StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster (else the run's own, if it is of this bastion, else KUBECONFIG)")
	return c
}

func runUnlock(c *cobra.Command, f *fleetFlags, run string) error {
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
	kubeconfig, err := f.kubeconfigOf(c.Context(), run)
	if err != nil {
		return err
	}
	client, err := cluster.Connect(kubeconfig, cluster.Options{UserAgent: "fleetd/" + version})
	if err != nil {
		return err
	}
	if err := client.Unlock(c.Context(), run); err != nil {
		return err
	}
	fmt.Fprintf(c.OutOrStdout(), "Run %s no longer holds the cluster.\n", run)
	return nil
}

// kubeconfigOf is the kubeconfig of a run of which there may be no journal here.
func (f *fleetFlags) kubeconfigOf(ctx context.Context, run string) (string, error) {
	if f.kubeconfig != "" {
		return f.kubeconfig, nil
	}
	if j, err := f.readJournal(); err == nil {
		defer j.Close()
		var r reach
		if raw, err := j.Reach(ctx, run); err == nil && json.Unmarshal(raw, &r) == nil && r.Kubeconfig != "" {
			return r.Kubeconfig, nil
		}
	}
	if k := os.Getenv("KUBECONFIG"); k != "" {
		return k, nil
	}
	return "", errors.New("which cluster? Give --kubeconfig, or set KUBECONFIG")
}
