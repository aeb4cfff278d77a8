package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/view"
	"github.com/fleetd/fleetd/pkg/words"
)

func newPropose() *cobra.Command {
	s := &serverFlags{}
	c := &cobra.Command{
		Use:   "propose PLANFILE",
		Short: "Propose a saved plan to a fleetd serve, for somebody else to approve",
		Long: `Propose sends a plan that fleetd plan --out has saved to a fleetd serve. It waits
there for a week, until somebody else approves it with fleetd approve or on the
page; then the server carries it out. It takes a token with the role operator, and a
fleet of the server's configuration, planned in its words.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("which plan? fleetd propose PLANFILE; fleetd plan --out writes one")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return runPropose(c, s, args[0]) },
	}
	s.add(c, "")
	return c
}

func runPropose(c *cobra.Command, s *serverFlags, file string) error {
	server, err := s.needed(c)
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("cannot read the plan: %w", err)
	}
	plan, err := rollout.ReadPlan(raw)
	if err != nil {
		return fmt.Errorf("cannot read the plan %s: %w\nfleetd plan INVENTORY --out %s writes one", file, err, words.Quote(file))
	}
	ctx, stop := cancelOnInterrupt(c)
	defer stop()
	p, err := server.Propose(ctx, raw)
	if err != nil {
		return err
	}
	if p.Digest != plan.Digest {
		return errors.New("the server has taken another plan than this one")
	}
	w := c.OutOrStdout()
	fmt.Fprintf(w, "Plan %d: %s\n", p.ID, standsOf(p))
	if p.State == "waiting" {
		argv := append([]string{"fleetd", "approve", strconv.FormatInt(p.ID, 10)}, repeated(c, "server", "server-authority")...)
		fmt.Fprintf(w, "\nNext: %s    somebody else, with the role approver, reads and approves it\n", words.Quote(argv...))
	}
	return nil
}

func newApprove() *cobra.Command {
	s, expect := &serverFlags{}, ""
	c := &cobra.Command{
		Use:   "approve N",
		Short: "Read a plan that was proposed to a fleetd serve, and approve it",
		Long: `Approve shows the plan of proposal N, and asks for the first characters of its
digest, which stands at the plan's end: what is approved is that plan and no other.
--expect DIGEST approves the plan of that digest without a question, for who has read
it elsewhere. Nothing approves a plan without its digest.

It takes a token with the role approver, and not that of who has proposed it. The
server begins the plan once no other run is under way, and its maintenance window is
open if the fleet has any.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return runApprove(c, s, args[0], expect) },
	}
	s.add(c, "")
	c.Flags().StringVar(&expect, "expect", "", "digest of the plan that was read; another one is refused, this one is not asked about")
	return c
}

// digestAsked is how much of a digest is asked for: more than anybody types by chance.
const digestAsked = 8

func runApprove(c *cobra.Command, s *serverFlags, number, expect string) error {
	id, err := strconv.ParseInt(number, 10, 64)
	if err != nil || id < 1 {
		return fmt.Errorf("%q is no number of a proposal\nfleetd propose has told it; the server's page lists them under Plans", number)
	}
	server, err := s.needed(c)
	if err != nil {
		return err
	}
	ctx, stop := cancelOnInterrupt(c)
	defer stop()
	p, plan, err := server.Proposal(ctx, id)
	if err != nil {
		return err
	}
	w := c.OutOrStdout()
	if expect != "" && expect != plan.Digest {
		return fmt.Errorf("plan %d is not the one that was read: its digest is %s, expected was %s; it was not approved", id, plan.Digest, expect)
	}
	view.Plan(w, view.StyleFor(w), plan)
	fmt.Fprintf(w, "\nPlan %d: %s\n", id, standsOf(p))
	if p.State != "waiting" {
		return fmt.Errorf("plan %d does not wait for an approval", id)
	}
	if expect == "" {
		if err := confirmDigest(ctx, c, plan.Digest); err != nil {
			return err
		}
	}
	if p, err = server.Approve(ctx, id, plan.Digest); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nPlan %d: %s\n", id, standsOf(p))
	return nil
}

// confirmDigest has the person type what only who has the plan before her knows.
func confirmDigest(ctx context.Context, c *cobra.Command, digest string) error {
	answer, err := ask(ctx, c, fmt.Sprintf("\nTo approve it, type the first %d characters of its digest, or more: ", digestAsked),
		"Read the plan, then approve it with --expect DIGEST")
	switch {
	case errors.Is(err, errInterrupted):
		fmt.Fprintln(c.OutOrStdout(), "\nIt was not approved.")
		return exitCode(exitInterrupted)
	case err != nil:
		return err
	case len(answer) < digestAsked || !strings.HasPrefix(digest, answer):
		fmt.Fprintln(c.OutOrStdout(), "That is not its digest. It was not approved.")
		return exitCode(exitError)
	}
	return nil
}

// standsOf is how a proposal stands, in a line or two.
func standsOf(p view.Proposal) string {
	at := func(t time.Time) string { return t.Local().Format(time.DateTime) }
	said := "proposed by " + text.Printable(p.By) + " on " + at(p.At) + "; "
	window := ""
	if !p.BeginsAt.IsZero() {
		window = "its maintenance window opens, at " + at(p.BeginsAt) + ", and "
	}
	switch p.State {
	case "waiting":
		if p.Refused != "" {
			said += "approved before, and not begun: " + text.Printable(p.Refused) + "; "
		}
		return said + "waits for an approval until " + at(p.Until)
	case "approved":
		return said + "approved by " + text.Printable(p.Approved) + ": the server begins it once " + window + "no other run is under way, until " + at(p.ApprovedUntil)
	case "begun":
		return said + "begun as run " + text.Printable(p.Run)
	}
	return said + "too old to be approved"
}
