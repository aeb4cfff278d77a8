package main

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/pkg/compliance"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/server"
	"github.com/fleetd/fleetd/pkg/view"
)

func newServe() *cobra.Command {
	f := &fleetFlags{}
	var config string
	var check bool
	c := &cobra.Command{
		Use:   "serve",
		Short: "Show runs and compliance on a page and by an API",
		Long: `Serve answers a browser, and programs, with what was run and what is being run on
this machine, and where fleets are not as they should be, read from the journal
beside the fleetd that writes it. Fleets of the configuration it looks at, as fleetd
compliance does, at their times, and webhooks it tells what happens. A plan that one person has proposed and another one
approved it has carried out by a fleetd apply of its own, and no other; that goes on
when this process ends.

It listens on ` + server.DefaultListen + `, which this machine alone reaches; from
elsewhere: ssh -L 8420:` + server.DefaultListen + ` BASTION. Any other address takes TLS
and tokens in the configuration. Without tokens there it makes one for this start
and prints it, if there is a terminal to print it to. A socket that systemd hands
over is taken instead.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runServe(c, f, config, check) },
	}
	c.Flags().StringVar(&config, "config", "", "configuration file (YAML)")
	c.Flags().BoolVar(&check, "check", false, "only say whether the configuration is right")
	f.addState(c)
	var roles []string
	token := &cobra.Command{
		Use:   "token NAME",
		Short: "Make a token, and the lines of it for the configuration",
		Args:  cobra.ExactArgs(1),
		RunE:  func(c *cobra.Command, args []string) error { return makeToken(c, args[0], roles) },
	}
	token.Flags().StringSliceVar(&roles, "role", []string{string(server.Viewer)}, "what its owner may do: all read; operator also pauses and aborts runs and proposes plans, approver approves them (repeatable, or a,b)")
	c.AddCommand(token)
	return c
}

func makeToken(c *cobra.Command, name string, names []string) error {
	var roles []server.Role
	for _, n := range names {
		r, err := server.ParseRole(n)
		if err != nil {
			return err
		}
		roles = append(roles, r)
	}
	secret, t := server.NewToken(name, roles...)
	fmt.Fprintf(c.ErrOrStderr(), "The token, for %s alone; it is not shown again:\n", name)
	fmt.Fprintln(c.OutOrStdout(), secret)
	fmt.Fprintf(c.ErrOrStderr(), "For tokens in the configuration:\n  - {name: %s, roles: [%s], sha256: %s}\n", t.Name, strings.Join(names, ", "), hex.EncodeToString(t.Sum[:]))
	return nil
}

func runServe(c *cobra.Command, f *fleetFlags, file string, check bool) error {
	config := server.Config{Listen: server.DefaultListen}
	if file != "" {
		var err error
		if config, err = server.ReadConfig(file, builtin()); err != nil {
			return err
		}
	} else if check {
		return errors.New("--check: which configuration? give --config FILE")
	}
	secured, err := config.TLS()
	if err != nil {
		return err
	}
	if check {
		fmt.Fprintf(c.OutOrStdout(), "%s is right.\n", file)
		return nil
	}
	if f.state == "" && config.State != "" {
		// The commands that a page names have to find the same journal.
		if err := c.Flags().Set("state", config.State); err != nil {
			return err
		}
	}
	if config.State, err = f.stateDir(); err != nil {
		return err
	}
	if err := os.MkdirAll(config.State, 0o700); err != nil {
		return fmt.Errorf("cannot make the state folder: %w", err)
	}
	secret, err := ownToken(c, &config)
	if err != nil {
		return err
	}
	// Ctrl-C during what follows ends it as it ends the server.
	ctx, stop := cancelOnInterrupt(c)
	defer stop()
	l, err := systemdSocket()
	if err != nil {
		return err
	}
	if l == nil {
		if l, err = (&net.ListenConfig{}).Listen(ctx, "tcp", config.Listen); err != nil {
			return fmt.Errorf("cannot listen: %w\nsomebody else may have the port: ss -ltnp shows who; listen in the configuration names another", err)
		}
	}
	log := slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil))
	s, err := server.New(server.Options{
		Config: config, Address: l.Addr().String(), Now: time.Now, Version: version,
		Next: func(id string, r *rollout.Run) view.Next { return nextOf(c, id, retryOf(c, r)) },
		Look: func(ctx context.Context, fl server.Fleet) error { return lookAt(ctx, config.State, fl, log) },
		Mend: func(schedule string, r *compliance.Report) view.ComplianceNext {
			for _, fl := range config.Fleets {
				if fl.Name == schedule {
					return mendOf(c, r, fl.Kubeconfig)
				}
			}
			return mendOf(c, r, "")
		},
		Start:    func(job server.Job) (<-chan error, error) { return startJob(config.State, job) },
		Playbook: defaultPlaybook,
		Log:      log,
	})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	scheme := "http"
	if secured != nil {
		scheme, l = "https", tls.NewListener(l, secured)
	}
	url := scheme + "://" + l.Addr().String() + "/"
	fmt.Fprintf(c.ErrOrStderr(), "fleetd shows the runs of %s at %s\n", config.State, url)
	if secret != "" {
		fmt.Fprintf(c.ErrOrStderr(), "Log in, until this process ends, with %slogin#%s\n", url, secret)
	}
	if err := notifySystemd("READY=1"); err != nil {
		return errors.Join(fmt.Errorf("cannot tell systemd that all is ready: %w", err), l.Close())
	}
	context.AfterFunc(ctx, func() { _ = notifySystemd("STOPPING=1") }) // it is ended all the same
	if err := s.Run(ctx, l); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// ownToken makes a token for this start where none is configured, and returns its
// text. It is shown on a terminal alone: a log would keep it.
func ownToken(c *cobra.Command, config *server.Config) (secret string, err error) {
	if len(config.Tokens) > 0 {
		return "", nil
	}
	if !view.Terminal(c.ErrOrStderr()) {
		return "", errors.New("no tokens are configured, and there is no terminal to print one to\nfleetd serve token NAME makes one for tokens in the configuration (--config)")
	}
	secret, t := server.NewToken("terminal", server.Viewer)
	config.Tokens = []server.Token{t}
	return secret, nil
}
