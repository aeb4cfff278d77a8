package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/inventory/export"
)

func newInventory() *cobra.Command {
	f := &fleetFlags{}
	var list, graph, vars, yaml, exported, secrets bool
	var host, playbookDir, file string
	c := &cobra.Command{
		Use:   "inventory [INVENTORY] --list | --host NAME | --graph [GROUP]",
		Short: "Show the inventory as ansible-inventory does",
		Long: `Inventory prints what fleetd reads of an inventory in the shape of
ansible-inventory, so that a diff of the two is a proof. Without INVENTORY and
-i it reads what ANSIBLE_INVENTORY or ansible.cfg name, as ansible-inventory does.`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			if n := count(list, graph, host != ""); n != 1 {
				return errors.New("give one of --list, --host NAME, --graph")
			}
			group := "all"
			if graph && len(args) > 0 && (len(args) == 2 || len(f.inventories) > 0) {
				group, args = args[len(args)-1], args[:len(args)-1]
			}
			// None given: package local looks where Ansible looks.
			inv, _, err := readInventory(c, f, append(args, f.inventories...), playbookDir)
			if err != nil {
				return err
			}
			told := len(inv.Warnings())
			o := export.Options{Export: exported, ShowSecrets: secrets, PlaybookDirGiven: playbookDir != ""}
			if len(f.limit) > 0 {
				if o.Only, err = inv.Limit(inv.Hosts(), strings.Join(f.limit, ",")); err != nil {
					return err
				}
				for _, w := range inv.Warnings()[told:] {
					fmt.Fprintln(c.ErrOrStderr(), "warning: "+w.String())
				}
			}
			if file != "" {
				if !list {
					return errors.New("--output FILE goes with --list")
				}
				return toFile(file, func(out io.Writer) error { return writeInventory(out, inv, yaml, o) })
			}
			out := c.OutOrStdout()
			switch {
			case graph:
				return export.Graph(out, inv, group, vars, o)
			case host != "":
				return export.Host(out, inv, host, yaml, o)
			}
			return writeInventory(out, inv, yaml, o)
		},
	}
	f.addInventory(c)
	fs := c.Flags()
	fs.BoolVar(&list, "list", false, "all groups and hosts with their variables, as JSON")
	fs.StringVar(&host, "host", "", "the variables of one host")
	fs.BoolVar(&graph, "graph", false, "groups and hosts as a tree")
	fs.BoolVar(&vars, "vars", false, "with --graph: also the variables")
	fs.BoolVarP(&yaml, "yaml", "y", false, "YAML instead of JSON")
	fs.StringVar(&file, "output", "", "with --list: write into this file")
	fs.BoolVar(&exported, "export", false, "variables where they are defined, instead of merged into each host")
	fs.StringVar(&playbookDir, "playbook-dir", "", "also read group_vars/ and host_vars/ of this folder, as of a playbook's")
	fs.BoolVar(&secrets, "show-secrets", false, "show what vaults hold")
	return c
}

func writeInventory(out io.Writer, inv *inventory.Inventory, yaml bool, o export.Options) error {
	if yaml {
		return export.YAML(out, inv, o)
	}
	return export.List(out, inv, o)
}

// toFile writes a file that only its owner may read: with --show-secrets it
// holds what vaults hold.
func toFile(name string, write func(io.Writer) error) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write the inventory: %w", err)
	}
	// One that was there keeps its mode, unless it is told otherwise before the
	// first byte; a pipe or a terminal has none that matters.
	if info, err := f.Stat(); err != nil || info.Mode().IsRegular() {
		if err := errors.Join(err, f.Chmod(0o600), f.Truncate(0)); err != nil {
			return fmt.Errorf("cannot write the inventory into %s: %w", name, errors.Join(err, f.Close()))
		}
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return fmt.Errorf("cannot write the inventory into %s: %w", name, err)
	}
	return nil
}

func count(conditions ...bool) (n int) {
	for _, c := range conditions {
		if c {
			n++
		}
	}
	return n
}
