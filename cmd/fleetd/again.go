package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fleetd/fleetd/pkg/compliance"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/view"
	"github.com/fleetd/fleetd/pkg/words"
)

// again is the command line that does verb with what source was made with, and
// reaches the fleet as this command did. It is typed at 2 a.m. as it stands: a
// --limit or --playbook that it forgot would change other hosts, or do other
// things to them.
func again(c *cobra.Command, verb string, s rollout.Source) string {
	argv := []string{"fleetd", verb}
	for i, inv := range s.Inventories {
		if i > 0 {
			argv = append(argv, "-i")
		}
		argv = append(argv, inv)
	}
	if s.Playbook != "" && s.Playbook != defaultPlaybook {
		argv = append(argv, "--playbook", s.Playbook)
	}
	for _, l := range s.Limit {
		argv = append(argv, "--limit", l)
	}
	for _, t := range s.Tags {
		argv = append(argv, "--tags", t)
	}
	for _, t := range s.SkipTags {
		argv = append(argv, "--skip-tags", t)
	}
	if s.StartAtTask != "" {
		argv = append(argv, "--start-at-task", s.StartAtTask)
	}
	for _, e := range s.ExtraVars {
		argv = append(argv, "-e", e)
	}
	if s.Kubeconfig != "" {
		argv = append(argv, "--kubeconfig", s.Kubeconfig)
	}
	if s.KubeVia != "" {
		argv = append(argv, "--kube-via", s.KubeVia)
	}
	argv = append(argv, access(c)...)
	if verb != "plan" {
		argv = append(argv, repeated(c, "state")...)
	}
	return words.Quote(argv...)
}

// againUndo is the command line that takes a run back.
func againUndo(c *cobra.Command, run string, limit []string) string {
	argv := []string{"fleetd", "undo", run}
	for _, l := range limit {
		argv = append(argv, "--limit", l)
	}
	return words.Quote(slices.Concat(argv, access(c), repeated(c, "state"))...)
}

// nextOf is what can be typed when a run has ended.
func nextOf(c *cobra.Command, id, again string) view.Next {
	state := repeated(c, "state")
	return view.Next{
		Show:   words.Quote(slices.Concat([]string{"fleetd", "runs", "show", id}, whereRuns(c))...),
		Resume: words.Quote(slices.Concat([]string{"fleetd", "resume", id}, access(c), whereRuns(c))...),
		Past:   words.Quote(slices.Concat([]string{"fleetd", "resume", id, "--past-halt"}, access(c), state)...),
		Undo:   againUndo(c, id, nil),
		Again:  again,
	}
}

// mendOf is what can be typed about a fleet of which a report is remembered.
func mendOf(c *cobra.Command, r *compliance.Report, kubeconfig string) view.ComplianceNext {
	source := rollout.Source{Inventories: r.Inventories, Playbook: r.Playbook, Kubeconfig: kubeconfig}
	look := again(c, "compliance", source)
	if r.PolicyFile != "" && r.PolicyFile != besideInventory(r.Inventories) {
		look += " " + words.Quote("--policy", r.PolicyFile)
	}
	return view.ComplianceNext{Plan: again(c, "plan", source), Look: look}
}

// access repeats the flags that say how the fleet and its secrets are reached.
func access(c *cobra.Command) []string {
	return append(repeated(c, vaultFlags...), repeated(c, connectionFlags...)...)
}

// whereRuns repeats the flags that say where runs are told of.
func whereRuns(c *cobra.Command) []string {
	return append(repeated(c, "state"), repeated(c, serverFlagNames...)...)
}

// repeated are those of the named flags that the command was given, as words.
func repeated(c *cobra.Command, names ...string) []string {
	var words []string
	for _, name := range names {
		f := c.Flags().Lookup(name)
		if f == nil || !f.Changed {
			continue
		}
		switch v := f.Value.(type) {
		case pflag.SliceValue:
			for _, x := range v.GetSlice() {
				words = append(words, "--"+name, x)
			}
		default:
			if f.Value.Type() == "bool" {
				words = append(words, "--"+name)
			} else {
				words = append(words, "--"+name, v.String())
			}
		}
	}
	return words
}

// arguments writes several inventories as the arguments that name them again.
func arguments(inventories []string) string { return strings.Join(inventories, " -i ") }
