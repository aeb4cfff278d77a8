package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/config"
)

// fleetFlags are the flags of every verb that works on a fleet; where Ansible
// has the flag too it has Ansible's name.
type fleetFlags struct {
	inventories    []string
	limit          []string
	tags           []string
	skipTags       []string
	startAtTask    string
	extraVars      []string
	playbook       string
	kubeconfig     string
	kubeVia        string
	state          string
	forks          int
	output         string
	outputs        []string // those that there are; nil are text and json
	askPass        bool
	askBecomePass  bool
	askVaultPass   bool
	vaultFiles     []string
	vaultIDs       []string
	acceptNewHosts bool
	sshAlgorithms  sshexec.AlgorithmPolicy
	server         serverFlags
	until          time.Time
}

func (f *fleetFlags) addInventory(c *cobra.Command) {
	fs := c.Flags()
	fs.StringArrayVarP(&f.inventories, "inventory", "i", nil, "inventory file, folder, script or host list \"a,b,\" (repeatable)")
	fs.StringArrayVarP(&f.limit, "limit", "l", nil, "only hosts that match the pattern (repeatable)")
	fs.StringArrayVarP(&f.extraVars, "extra-vars", "e", nil, "key=value, JSON, or @file; stronger than every other variable (repeatable)")
	f.addVault(c)
}

// vaultFlags are the names of what addVault adds.
var vaultFlags = []string{"ask-vault-pass", "vault-password-file", "vault-id"}

func (f *fleetFlags) addVault(c *cobra.Command) {
	fs := c.Flags()
	fs.BoolVarP(&f.askVaultPass, "ask-vault-pass", "J", false, "ask for the vault password")
	fs.StringArrayVar(&f.vaultFiles, "vault-password-file", nil, "file or executable that gives the vault password (repeatable)")
	fs.StringArrayVar(&f.vaultIDs, "vault-id", nil, "label@source of a vault password (repeatable)")
}

// connectionFlags are the names of what addConnection adds.
var connectionFlags = []string{"forks", "ask-pass", "ask-become-pass", "accept-new-host-keys", "ssh-algorithms"}

func (f *fleetFlags) addConnection(c *cobra.Command) {
	fs := c.Flags()
	fs.IntVarP(&f.forks, "forks", "f", 32, "hosts to work on at the same time")
	fs.BoolVarP(&f.askPass, "ask-pass", "k", false, "ask for the SSH password")
	fs.BoolVarP(&f.askBecomePass, "ask-become-pass", "K", false, "ask for the sudo password")
	fs.BoolVar(&f.acceptNewHosts, "accept-new-host-keys", false, "trust and remember host keys that known_hosts does not have; a changed key is refused all the same")
	fs.Var(&f.sshAlgorithms, "ssh-algorithms", "SSH's algorithms: fips leaves out what FIPS 140-3 does not allow")
}

const defaultPlaybook = "playbooks/site.yml"

func (f *fleetFlags) addPlaybook(c *cobra.Command) {
	fs := c.Flags()
	fs.StringVar(&f.playbook, "playbook", defaultPlaybook, "playbook; those that fleetd brings are found under playbooks/ anywhere")
	fs.StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster (else the inventory's kubeconfig variable, else KUBECONFIG)")
	fs.StringVar(&f.kubeVia, "kube-via", "", "host of the inventory through which the API server is reached, by SSH; one that the playbook does not work on")
}

// tagFlags are the names of what addTags adds.
var tagFlags = []string{"tags", "skip-tags", "start-at-task"}

func (f *fleetFlags) addTags(c *cobra.Command) {
	fs := c.Flags()
	fs.StringSliceVarP(&f.tags, "tags", "t", nil, "only tasks with one of these tags (repeatable, or a,b)")
	fs.StringVar(&f.startAtTask, "start-at-task", "", "leave out all tasks before the one of this name, which may be a pattern such as \"Drain*\"")
	fs.StringSliceVar(&f.skipTags, "skip-tags", nil, "no task with one of these tags (repeatable, or a,b)")
}

func (f *fleetFlags) addState(c *cobra.Command) {
	c.Flags().StringVar(&f.state, "state", "", "folder of the journal (default $XDG_STATE_HOME/fleetd, else ~/.local/state/fleetd)")
}

func (f *fleetFlags) addUntil(c *cobra.Command) {
	c.Flags().TimeVar(&f.until, "until", time.Time{}, []string{time.RFC3339}, "when the maintenance window closes, as 2026-11-28T05:00:00+01:00: from then on no step begins and the run pauses")
}

func (f *fleetFlags) addOutput(c *cobra.Command) {
	c.Flags().StringVarP(&f.output, "output", "o", "text", "text or json")
}

// reports are the forms of a report.
var reports = []string{"text", "json", "junit", "sarif", "prometheus", "markdown", "html"}

func (f *fleetFlags) addReport(c *cobra.Command) {
	f.outputs = reports
	c.Flags().StringVarP(&f.output, "output", "o", "text", strings.Join(reports, ", "))
}

// check is what can be said of the flags before anything is read.
func (f *fleetFlags) check() error {
	if outputs := f.outputs; f.output != "" {
		if outputs == nil {
			outputs = []string{"text", "json"}
		}
		if !slices.Contains(outputs, f.output) {
			last := len(outputs) - 1
			return fmt.Errorf("-o %s: the output is %s or %s", f.output, strings.Join(outputs[:last], ", "), outputs[last])
		}
	}
	if f.forks < 0 {
		return fmt.Errorf("--forks %d: give a number from 1", f.forks)
	}
	return f.closed() // before a fleet is looked at in vain
}

// keepable refuses extra vars that plan and journal must not keep.
func (f *fleetFlags) keepable() error {
	for _, e := range f.extraVars {
		if strings.HasPrefix(e, "@") {
			continue // the file's name is kept, not what is in it
		}
		if name := config.SecretVariableIn(e); name != "" {
			return fmt.Errorf("%s with -e would be kept in the plan and in the journal, and everybody on this machine sees it in the process list\n"+
				"use -k or -K, a vault, or -e @FILE", name)
		}
	}
	return nil
}

// sources are the inventories: the argument, if any, and every -i. None means
// those of ANSIBLE_INVENTORY or ansible.cfg.
func (f *fleetFlags) sources(args []string) []string {
	return append(append([]string{}, args...), f.inventories...)
}

func (f *fleetFlags) stateDir() (string, error) {
	if f.state != "" {
		return f.state, nil
	}
	if d := os.Getenv("XDG_STATE_HOME"); d != "" {
		return filepath.Join(d, "fleetd"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("cannot tell where the journal goes: %w; give --state", err)
	}
	return filepath.Join(home, ".local", "state", "fleetd"), nil
}
