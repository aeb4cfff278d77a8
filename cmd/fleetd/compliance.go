package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/pkg/compliance"
	"github.com/fleetd/fleetd/pkg/view"
)

func newCompliance() *cobra.Command {
	f := &fleetFlags{}
	c := &cobra.Command{
		Use:   "compliance INVENTORY",
		Short: "Report where the fleet is not as the playbook wants; change nothing",
		Long: `Compliance looks at every node and at the cluster and reports drift: a kernel
older than kernel_minimum, a kernel that is not installed, not running or not
the default, a data plane, kube-proxy or service mode that is not as wanted, a
missing or altered BPF object. It writes nothing.

Exit status: 0 compliant; 2 drift; 1 an error, or hosts that could not be judged.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return runCompliance(c, f, args) },
	}
	f.addInventory(c)
	f.addConnection(c)
	f.addPlaybook(c)
	f.addState(c)
	f.addOutput(c)
	return c
}

func runCompliance(c *cobra.Command, f *fleetFlags, args []string) error {
	sources := f.sources(args)
	fl, err := openFleet(c, f, sources)
	if err != nil {
		return err
	}
	defer fl.close()
	modules := fl.differs()
	if !compliance.HasPolicy(fl.desired, modules) {
		return fmt.Errorf("%s: %w", fl.source.Playbook, compliance.ErrNoPolicy)
	}
	f.tellUnfinished(c)
	observed, err := fl.observe(c)
	if err != nil {
		return err
	}
	r := compliance.Check(fl.desired, observed, modules)
	r.At, r.Inventories, r.Playbook = time.Now().UTC(), fl.source.Inventories, fl.source.Playbook
	out := c.OutOrStdout()
	if f.output == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		if err := enc.Encode(r); err != nil {
			return err
		}
	} else {
		view.Compliance(out, view.StyleFor(out), &r)
	}
	switch r.Status {
	case compliance.Drift:
		return exitCode(exitChanges)
	case compliance.Unknown:
		return exitCode(exitError)
	}
	return nil
}
