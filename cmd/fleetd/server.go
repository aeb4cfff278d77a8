package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/pkg/client"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/view"
)

// serverFlags name a fleetd serve that is asked, and in whose name.
type serverFlags struct {
	url, tokenFile, authority, certificate, key string
}

// serverFlagNames are the names of what add adds that leads there again.
var serverFlagNames = []string{"server", "token-file", "server-authority", "client-certificate", "client-key"}

func (s *serverFlags) add(c *cobra.Command, otherwise string) {
	fs := c.Flags()
	fs.StringVar(&s.url, "server", "", "address of a fleetd serve that is asked"+otherwise+" (default FLEETD_SERVER)")
	fs.StringVar(&s.tokenFile, "token-file", "", "file with the token for the server, that only you can read (default: the token is FLEETD_TOKEN)")
	fs.StringVar(&s.authority, "server-authority", "", "file in PEM with the authority that has signed the server's certificate")
	fs.StringVar(&s.certificate, "client-certificate", "", "file in PEM with the certificate that is shown to a server that wants one")
	fs.StringVar(&s.key, "client-key", "", "file in PEM with its key, that only you can read")
}

// client is that of the server to ask; nil if none is named. --state names a journal,
// which is stronger than the environment.
func (s *serverFlags) client(c *cobra.Command) (*client.Client, error) {
	address, state := s.url, c.Flags().Changed("state")
	switch {
	case c.Flags().Changed("server") && state:
		return nil, errors.New("--server and --state: the journal of the server, or one of this machine?\ngive one of them")
	case !c.Flags().Changed("server") && !state:
		address = os.Getenv("FLEETD_SERVER")
	}
	if address == "" {
		for _, name := range serverFlagNames {
			if c.Flags().Changed(name) {
				return nil, fmt.Errorf("--%s goes with --server URL, or FLEETD_SERVER", name)
			}
		}
		return nil, nil
	}
	token, err := s.token()
	if err != nil {
		return nil, err
	}
	return client.New(client.Options{URL: address, Token: token, Authority: s.authority, Certificate: s.certificate, Key: s.key})
}

// needed is client for a verb that no journal can stand in for.
func (s *serverFlags) needed(c *cobra.Command) (*client.Client, error) {
	asked, err := s.client(c)
	if err == nil && asked == nil {
		err = fmt.Errorf("%s asks a fleetd serve: which?\ngive --server URL, or FLEETD_SERVER", c.CommandPath())
	}
	return asked, err
}

// token is what the server knows the person by. It is no argument: everybody on this
// machine sees those.
func (s *serverFlags) token() (string, error) {
	if s.tokenFile == "" {
		return os.Getenv("FLEETD_TOKEN"), nil
	}
	f, err := os.Open(s.tokenFile)
	if err != nil {
		return "", fmt.Errorf("cannot read the token: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return "", fmt.Errorf("cannot read the token: %w", err)
	case info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0:
		return "", fmt.Errorf("others can read the token in %s (mode %04o)\nchmod 600 it, and have a new token made if somebody may have read it", s.tokenFile, info.Mode().Perm())
	}
	const most = 4 << 10
	raw, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return "", fmt.Errorf("cannot read the token: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}

// runSource is where runs are told of, and asked to stop: the journal of this machine,
// or a server.
type runSource interface {
	// Last is the newest run.
	Last(ctx context.Context) (string, error)
	// Rows are all runs, the newest first.
	Rows(ctx context.Context) ([]view.RunRow, error)
	// Events are the events of a run, one at a time: a big one need not fit into memory.
	Events(ctx context.Context, run string) iter.Seq2[rollout.Event, error]
	// Follow are the events of a run, those that there are and those that come, until it is
	// done. lost is told why they stay away for a while, and nil once they come again.
	Follow(ctx context.Context, run string, lost func(error)) iter.Seq2[client.News, error]
	// Request asks the process that is at a run to stop, and waits for it to look.
	Request(ctx context.Context, run string, verb rollout.Verb, reason string) (heard bool, err error)
}

// runSource is the server that the flags name, or the journal.
func (f *fleetFlags) runSource(c *cobra.Command) (runSource, error) {
	asked, err := f.server.client(c)
	if err != nil {
		return nil, err
	}
	if asked != nil {
		return asked, nil
	}
	return journalSource{f}, nil
}

// runOf is the run that the arguments name, or the newest.
func runOf(ctx context.Context, s runSource, args []string) (string, error) {
	if len(args) == 1 {
		return args[0], nil
	}
	return s.Last(ctx)
}
