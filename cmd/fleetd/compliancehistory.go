package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/pkg/compliance"
	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/view"
)

func newComplianceDiff() *cobra.Command {
	f := &fleetFlags{}
	c := &cobra.Command{
		Use:   "diff [FROM [TO]]",
		Short: "Show what has changed between two reports",
		Long: `Diff shows which hosts stand otherwise against a policy than before: between the
last report and the one before it of the same inventory, playbook and policies, or
between FROM and TO (fleetd compliance history lists them).

Exit status: 0 nothing has changed; 2 something has; 1 an error.`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error { return runComplianceDiff(c, f, args) },
	}
	f.addState(c)
	f.addOutput(c)
	return c
}

func runComplianceDiff(c *cobra.Command, f *fleetFlags, args []string) error {
	if err := f.check(); err != nil {
		return err
	}
	j, err := f.openHistory()
	if err != nil {
		return err
	}
	if j == nil {
		return errNoHistory
	}
	defer j.Close()
	from, to, err := twoLooks(c, j, args)
	if err != nil {
		return err
	}
	before, err := j.Rulings(c.Context(), from.Name)
	if err != nil {
		return err
	}
	after, err := j.Rulings(c.Context(), to.Name)
	if err != nil {
		return err
	}
	d := compliance.Diff{From: from.Name, FromAt: from.At, To: to.Name, ToAt: to.At, Changes: compliance.Changes(before, after)}
	out := c.OutOrStdout()
	if f.output == "json" {
		if err := d.JSON(out); err != nil {
			return err
		}
	} else {
		view.ComplianceDiff(out, view.StyleFor(out), &d)
	}
	if len(d.Changes) > 0 {
		return exitCode(exitChanges)
	}
	return nil
}

var errNoHistory = errors.New("there are no two reports to compare\nfleetd compliance INVENTORY makes one each time")

// twoLooks are those to compare.
func twoLooks(c *cobra.Command, j *journal.Journal, args []string) (from, to journal.Look, err error) {
	all, err := j.Looks(c.Context(), "", 0)
	if err != nil {
		return from, to, err
	}
	find := func(name string) (journal.Look, error) {
		for _, l := range all {
			if l.Name == name {
				return l, nil
			}
		}
		return journal.Look{}, fmt.Errorf("there is no report %s\nfleetd compliance history lists them", name)
	}
	if len(args) == 2 {
		if from, err = find(args[0]); err != nil {
			return from, to, err
		}
		to, err = find(args[1])
		return from, to, err
	}
	if len(args) == 1 {
		if from, err = find(args[0]); err != nil {
			return from, to, err
		}
	} else if len(all) > 0 {
		from = all[0]
	}
	// The newest two of the same fleet.
	all = slices.DeleteFunc(all, func(l journal.Look) bool { return l.Fleet != from.Fleet })
	switch {
	case len(args) == 1 && all[0].Name != from.Name:
		return from, all[0], nil
	case len(args) == 0 && len(all) > 1:
		return all[1], all[0], nil
	}
	return from, to, errNoHistory
}

func newComplianceHistory() *cobra.Command {
	f := &fleetFlags{}
	var most int
	c := &cobra.Command{
		Use:   "history",
		Short: "List the reports that the journal remembers",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			j, err := f.openHistory()
			if err != nil {
				return err
			}
			var looks []journal.Look
			if j != nil {
				defer j.Close()
				if looks, err = j.Looks(c.Context(), "", most); err != nil {
					return err
				}
			}
			rows := []view.Reported{}
			for _, l := range looks {
				rows = append(rows, view.Reported{ID: l.Name, At: l.At, Of: l.Title, Status: compliance.Status(l.Status), Hosts: l.Hosts})
			}
			out := c.OutOrStdout()
			if f.output == "json" {
				enc := json.NewEncoder(out)
				enc.SetIndent("", "  ")
				return enc.Encode(rows)
			}
			return view.ComplianceHistory(out, rows)
		},
	}
	f.addState(c)
	f.addOutput(c)
	c.Flags().IntVarP(&most, "number", "n", 20, "how many, the newest first; 0 is all")
	return c
}

func newComplianceRules() *cobra.Command {
	var schema bool
	c := &cobra.Command{
		Use:   "rules",
		Short: "List the rules that a file of policies can name, and the facts that its expressions can ask",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o := policyOptions(modules(nil, nil, nil))
			if schema {
				enc := json.NewEncoder(c.OutOrStdout())
				enc.SetIndent("", "  ")
				enc.SetEscapeHTML(false)
				return enc.Encode(compliance.JSONSchema(o))
			}
			return compliance.Help(c.OutOrStdout(), o)
		},
	}
	c.Flags().BoolVar(&schema, "schema", false, "print the form of the file as JSON Schema instead")
	return c
}
