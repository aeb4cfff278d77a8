package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/pkg/calico"
	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/compliance"
	"github.com/fleetd/fleetd/pkg/engine"
	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/kernel"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/view"
)

// policyFile is looked for beside the inventory.
const policyFile = "compliance.yaml"

// keepLooks is how long the journal keeps what compliance found.
const keepLooks = 400 * 24 * time.Hour

func newCompliance() *cobra.Command {
	f := &fleetFlags{}
	var policies string
	c := &cobra.Command{
		Use:   "compliance INVENTORY",
		Short: "Report where the fleet is not as it should be, and since when; change nothing",
		Long: `Compliance looks at every node and at the cluster and reports drift: from what
the playbook wants (a kernel older than kernel_minimum, a kernel that is not
installed, not running or not the default, a data plane, kube-proxy or service
mode that is not as wanted, a missing or altered BPF object), and from the
policies in compliance.yaml beside the inventory (docs/compliance.md). It changes
nothing on the fleet; what it found, and since when, is kept in the journal.

Exit status: 0 compliant; 2 drift; 1 an error, or hosts that could not be judged.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return runCompliance(c, f, args, policies) },
	}
	f.addInventory(c)
	f.addConnection(c)
	f.addPlaybook(c)
	f.addState(c)
	f.addReport(c)
	c.Flags().StringVar(&policies, "policy", "", "file of policies (default compliance.yaml beside the inventory, if there is one)")
	c.AddCommand(newComplianceDiff(), newComplianceHistory(), newComplianceRules())
	return c
}

func runCompliance(c *cobra.Command, f *fleetFlags, args []string, file string) error {
	r, source, err := assess(c, f, f.sources(args), file)
	if err != nil {
		return err
	}
	if err := f.remember(c.Context(), &r, ""); err != nil {
		fmt.Fprintf(c.ErrOrStderr(), "warning: since when is not known: %v\n", err)
	}
	if err := showReport(c, f, &r, source); err != nil {
		return err
	}
	switch r.Status {
	case compliance.Drift:
		return exitCode(exitChanges)
	case compliance.Unknown:
		return exitCode(exitError)
	}
	return nil
}

// assess looks at the fleet and holds it against its policies: those of a file, or, with
// "", of the one beside the inventory.
func assess(c *cobra.Command, f *fleetFlags, sources []string, file string) (compliance.Report, rollout.Source, error) {
	fail := func(err error) (compliance.Report, rollout.Source, error) {
		return compliance.Report{}, rollout.Source{}, err
	}
	var policies *compliance.Policies
	fl, err := openFleetFor(c, f, sources, func(inv *inventory.Inventory, sources []string) (hosts []string, err error) {
		if policies, err = readPolicies(f, inv, sources, file); err != nil {
			return nil, err
		}
		return policies.Hosts(), nil
	})
	if err != nil {
		return fail(err)
	}
	defer fl.close()
	if !policies.Playbook() {
		fl.desired, fl.source.Playbook = rollout.Desired{}, ""
	}
	f.tellUnfinished(c)
	observed, err := fl.look(c, func(ctx context.Context) (map[string]rollout.Observation, error) {
		return engine.ObserveAlso(ctx, fl.desired, fl.modules, policies.Wants(), fl.observers)
	})
	if err != nil {
		return fail(err)
	}
	r := compliance.Evaluate(policies, compliance.Fleet{Desired: fl.desired, Modules: fl.differs(), Observed: observed, Kernel: kernelOf}, time.Now())
	r.Inventories, r.Playbook = fl.source.Inventories, fl.source.Playbook
	return r, fl.source, nil
}

// kernelOf is the kernel that a host runs, "" where it was not asked.
func kernelOf(st rollout.State) string {
	facts, err := node.Section.Get(st)
	if err != nil {
		return ""
	}
	return facts.Running
}

// policyOptions are what policies can ask.
func policyOptions(modules map[string]rollout.Module) compliance.Options {
	o := compliance.Options{
		Rules:   slices.Concat(kernel.Rules(), calico.Rules()),
		Modules: map[string]rollout.Differ{},
		Facts: []compliance.Fact{
			{Section: node.Section, Keys: []string{"", node.UpkeepKey}},
			{Section: cluster.Kubernetes, Keys: []string{""}},
			{Section: calico.FelixSection, Keys: []string{""}},
			{Section: calico.Section, Keys: []string{""}, Cluster: true},
		},
	}
	for name, m := range modules {
		o.Modules[name] = m
	}
	return o
}

// readPolicies reads the file that is named, or the one beside the inventory; without
// any, the policies are fleetd's own.
func readPolicies(f *fleetFlags, inv *inventory.Inventory, sources []string, file string) (*compliance.Policies, error) {
	o := policyOptions(modules(nil, nil, nil))
	o.Hosts = func(pattern string) ([]string, error) { return policyHosts(f, inv, pattern) }
	if file == "" {
		file = besideInventory(sources)
	}
	if file == "" {
		return compliance.Default(o)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read the policies: %w", err)
	}
	return compliance.Load(&text.Source{Name: file, Data: string(raw)}, o)
}

// besideInventory is the file of policies beside the first inventory that has one; "" if
// there is none.
func besideInventory(sources []string) string {
	for _, s := range sources {
		if info, err := os.Stat(s); err != nil {
			continue // a list of hosts
		} else if !info.IsDir() {
			s = filepath.Dir(s)
		}
		if file := filepath.Join(s, policyFile); exists(file) {
			return file
		}
	}
	return ""
}

// policyHosts are the hosts of a policy's pattern, of those that --limit leaves.
func policyHosts(f *fleetFlags, inv *inventory.Inventory, pattern string) ([]string, error) {
	if pattern == rollout.Localhost { // a limit is about hosts, and leaves the cluster out
		if len(f.limit) > 0 && !slices.Contains(f.limit, rollout.Localhost) {
			return nil, nil
		}
		return []string{rollout.Localhost}, nil
	}
	hosts, err := inv.Match(pattern)
	if err == nil && len(hosts) == 0 {
		err = fmt.Errorf("%q selects no host", pattern)
	}
	for _, l := range f.limit {
		if err == nil {
			hosts, err = inv.Limit(hosts, l)
		}
	}
	return slices.DeleteFunc(hosts, func(h string) bool { return h == rollout.Localhost }), err
}

// showReport writes the report as the user wants it.
func showReport(c *cobra.Command, f *fleetFlags, r *compliance.Report, source rollout.Source) error {
	out := c.OutOrStdout()
	write, ok := map[string]func(io.Writer, *compliance.Report) error{
		"json": compliance.JSON, "junit": compliance.JUnit, "sarif": compliance.SARIF, "prometheus": compliance.Prometheus,
		"markdown": view.ComplianceMarkdown, "html": view.ComplianceHTML,
	}[f.output]
	if ok {
		if err := write(out, r); err != nil {
			return fmt.Errorf("cannot write the report: %w", err)
		}
		return nil
	}
	view.Compliance(out, view.StyleFor(out), r)
	if slices.ContainsFunc(r.Hosts, func(h compliance.Host) bool {
		return slices.ContainsFunc(h.Findings, func(f compliance.Finding) bool {
			return f.Status == compliance.Drift && f.Policy == compliance.PlaybookPolicy
		})
	}) {
		fmt.Fprintf(out, "Next: %s    shows what would mend what the playbook wants\n", again(c, "plan", source))
	}
	return nil
}

// remember writes into the journal what was found, and learns from it since when.
// schedule is what asked for it; "" = somebody did.
func (f *fleetFlags) remember(ctx context.Context, r *compliance.Report, schedule string) error {
	dir, err := f.stateDir()
	if err != nil {
		return err
	}
	// Who reads it later is in another folder.
	there := *r
	there.Inventories = nil
	for _, file := range r.Inventories {
		there.Inventories = append(there.Inventories, fromAnywhere(file))
	}
	there.Playbook, there.PolicyFile = fromAnywhere(r.Playbook), fromAnywhere(r.PolicyFile)
	limited := len(f.limit) > 0
	if limited {
		there.Kernels = nil // a part of the fleet does not go into the history of all of it
	}
	about, err := compliance.About(&there)
	if err != nil {
		return err
	}
	j, err := journal.Open(dir)
	if err != nil {
		return err
	}
	rulings, over := compliance.Rulings(r, limited)
	look := journal.Look{
		Name: journal.NewID(r.At), Fleet: fleetOf(&there), At: r.At, Status: string(r.Status), Hosts: len(r.Hosts),
		Title: strings.Join(r.Inventories, " + "), Schedule: schedule, About: about,
	}
	if limited {
		look.Title += " --limit " + strings.Join(f.limit, " --limit ")
	}
	err = j.Judged(ctx, look, rulings, over, keepLooks)
	if err == nil {
		compliance.SetSince(r, rulings)
	}
	return errors.Join(err, j.Close())
}

// fleetOf tells looks that can be compared: at the same inventories, playbook and file
// of policies.
func fleetOf(r *compliance.Report) string {
	sum := sha256.Sum256([]byte(strings.Join(slices.Concat(r.Inventories, []string{r.Playbook, r.PolicyFile}), "\x00")))
	return hex.EncodeToString(sum[:8])
}

// fromAnywhere is the name of a file from wherever one is; a list of hosts or a playbook
// that fleetd brings is none.
func fromAnywhere(file string) string {
	if abs, err := filepath.Abs(file); err == nil && file != "" && exists(file) {
		return abs
	}
	return file
}

// openHistory opens the journal to read it; nil if there is none.
func (f *fleetFlags) openHistory() (*journal.Journal, error) {
	dir, err := f.stateDir()
	if err != nil {
		return nil, err
	}
	j, err := journal.OpenReadOnly(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return j, err
}
