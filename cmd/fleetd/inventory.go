package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/inventory"
)

func newInventory() *cobra.Command {
	f := &fleetFlags{}
	var list, graph, vars, yaml, export, secrets bool
	var host, playbookDir string
	c := &cobra.Command{
		Use:   "inventory [INVENTORY] --list | --host NAME | --graph [GROUP]",
		Short: "Show the inventory as ansible-inventory does",
		Long: `Inventory prints what fleetd reads of an inventory in the shape of
ansible-inventory, so that a diff of the two is a proof.`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			if n := count(list, graph, host != ""); n != 1 {
				return errors.New("give one of --list, --host NAME, --graph")
			}
			group := "all"
			if graph && len(args) > 0 && (len(args) == 2 || len(f.inventories) > 0) {
				group, args = args[len(args)-1], args[:len(args)-1]
			}
			sources, err := f.sources(args)
			if err != nil {
				return err
			}
			inv, _, err := readInventory(c, f, sources, playbookDir)
			if err != nil {
				return err
			}
			o := inventory.ExportOptions{Export: export, ShowSecrets: secrets, PlaybookDirGiven: playbookDir != ""}
			if len(f.limit) > 0 {
				if o.Only, err = inv.Limit(inv.Hosts(), strings.Join(f.limit, ",")); err != nil {
					return err
				}
			}
			out := c.OutOrStdout()
			switch {
			case graph:
				return inv.WriteGraph(out, group, vars, o)
			case host != "":
				return inv.WriteHost(out, host, yaml, o)
			case yaml:
				return inv.WriteYAML(out, o)
			}
			return inv.WriteList(out, o)
		},
	}
	f.addInventory(c)
	fs := c.Flags()
	fs.BoolVar(&list, "list", false, "all groups and hosts with their variables, as JSON")
	fs.StringVar(&host, "host", "", "the variables of one host")
	fs.BoolVar(&graph, "graph", false, "groups and hosts as a tree")
	fs.BoolVar(&vars, "vars", false, "with --graph: also the variables")
	fs.BoolVar(&yaml, "yaml", false, "YAML instead of JSON")
	fs.BoolVar(&export, "export", false, "variables where they are defined, instead of merged into each host")
	fs.StringVar(&playbookDir, "playbook-dir", "", "also read group_vars/ and host_vars/ of this folder, as of a playbook's")
	fs.BoolVar(&secrets, "show-secrets", false, "show what vaults hold")
	return c
}

func count(conditions ...bool) (n int) {
	for _, c := range conditions {
		if c {
			n++
		}
	}
	return n
}
