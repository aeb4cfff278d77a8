package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/cmd/fleetd/collect"
	"github.com/fleetd/fleetd/pkg/playbook"
	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/view"
)

func newExec() *cobra.Command {
	f := &fleetFlags{}
	var become bool
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "exec INVENTORY PATTERN -- COMMAND",
		Short: "Run one command on many hosts",
		Long: `Exec runs a command on the hosts that a pattern matches, as ansible PATTERN -m
shell -a COMMAND does: the command goes through the node's /bin/sh. Hosts with
equal output are shown as one block.

Exit status: 0 the command ended with 0 everywhere; 1 it did not, or a host
could not be reached.`,
		Example: "  fleetd exec inventory.yaml all -- uname -rv",
		Args: func(c *cobra.Command, args []string) error {
			if dash := c.ArgsLenAtDash(); dash < 1 || dash == len(args) {
				return errors.New("write it as: fleetd exec INVENTORY PATTERN -- COMMAND")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			dash := c.ArgsLenAtDash()
			return runExec(c, f, args[:dash-1], args[dash-1], strings.Join(args[dash:], " "), become, timeout)
		},
	}
	f.addInventory(c)
	f.addConnection(c)
	f.addOutput(c)
	c.Flags().BoolVarP(&become, "become", "b", false, "as root, by the host's become method")
	c.Flags().DurationVar(&timeout, "timeout", 0, "how long the command may take on a host (default: no limit)")
	return c
}

func runExec(c *cobra.Command, f *fleetFlags, sources []string, pattern, command string, become bool, timeout time.Duration) error {
	if err := f.check(); err != nil {
		return err
	}
	sources = f.sources(sources)
	inv, cfg, err := readInventory(c, f, sources, besidePlaybook(f.playbook))
	if err != nil {
		return err
	}
	if err := needHosts(inv, used(sources, cfg)); err != nil {
		return err
	}
	told := len(inv.Warnings())
	hosts, err := inv.Match(pattern)
	if err != nil {
		return err
	}
	if len(hosts) == 0 {
		return fmt.Errorf("no host matches %q", pattern)
	}
	if len(f.limit) > 0 {
		limit := strings.Join(f.limit, ",")
		if hosts, err = inv.Limit(hosts, limit); err != nil {
			return err
		}
		if len(hosts) == 0 {
			return fmt.Errorf("no host of %q is within --limit %s", pattern, limit)
		}
	}
	for _, w := range inv.Warnings()[told:] {
		fmt.Fprintln(c.ErrOrStderr(), "warning: "+w.String())
	}
	vars, err := playbook.NewResolver(inv, inv.ExtraVars())
	if err != nil {
		return err
	}
	byName, err := targetsOf(c, f, inv, vars, cfg.Connection, hosts, nil)
	if err != nil {
		return err
	}
	var targets []sshexec.Target
	for _, h := range hosts {
		targets = append(targets, byName[h])
	}
	collect.ForOutput(len(targets), f.forks)
	waiting := view.NewWaiting(c.ErrOrStderr(), view.StyleFor(c.ErrOrStderr()), "running the command", "done", hosts, time.Now)
	pool := newPool(c, f, waiting.Hold)
	defer pool.Close()
	ctx, stop := cancelOnInterrupt(c)
	defer stop()
	done := context.AfterFunc(ctx, func() {
		defer waiting.Hold()()
		fmt.Fprintln(c.ErrOrStderr(), "\nInterrupted: ending the command on the hosts. Once more leaves it to them.")
		// From here on a signal ends fleetd at once: a host that does not
		// answer must not hold the person.
		stop()
	})
	results := view.NewExecResults()
	defer results.Close()
	waiting.Show()
	pool.RunAll(ctx, targets, sshexec.Command{Script: command, Become: become, Timeout: timeout}, f.forks, func(r sshexec.HostResult) {
		results.Add(r)
		waiting.Done(r.Host)
	})
	done()
	waiting.Close()
	out := c.OutOrStdout()
	if f.output == "json" {
		err = results.JSON(out, hosts)
	} else {
		err = results.Text(out, view.StyleFor(out), hosts)
	}
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return exitCode(exitInterrupted)
	case results.Failed():
		return exitCode(exitError)
	}
	return nil
}
