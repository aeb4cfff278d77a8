package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/server"
	"github.com/fleetd/fleetd/pkg/view"
)

// runApproved carries out the plan of a proposal that was approved: to the letter, as
// apply does with a saved one, and once. Where it cannot begin, the approval is used up
// and the proposal says why; but a run that is under way, and the next maintenance window,
// are waited for by asking again.
func runApproved(c *cobra.Command, f *fleetFlags, args []string, a applyFlags) error {
	if len(f.sources(args)) > 0 || a.expect != "" {
		return errors.New("--approved: the proposal says which plan; give neither inventory, plan nor --expect")
	}
	if err := unchanged(c); err != nil {
		return err
	}
	reviewed, err := f.approvedPlan(c, a.approved)
	if err != nil {
		return err
	}
	f.adopt(reviewed.Source)
	why := ""
	err = carryOut(c, f, order{
		sources: reviewed.Source.Inventories, known: true, shown: true, approved: a.approved,
		check: func(p *rollout.Plan) error {
			if p.Digest == reviewed.Digest {
				return nil
			}
			why = "the fleet is no longer as it was when the plan was made: " + strings.Join(view.Differences(reviewed, p), "; ")
			return stale(c, "the plan", reviewed, p)
		},
		retry: func(p *rollout.Plan) string { return again(c, "plan", p.Source) },
	})
	if err == nil || errors.Is(err, journal.ErrLocked) || errors.Is(err, errClosed) || errors.Is(err, exitCode(exitInterrupted)) {
		return err
	}
	if why == "" {
		why = err.Error()
	}
	if rerr := f.refuse(a.approved, why); rerr != nil {
		fmt.Fprintln(c.ErrOrStderr(), "warning: "+rerr.Error())
	}
	return err
}

// approvedPlan is the plan of a proposal, which has to be approved.
func (f *fleetFlags) approvedPlan(c *cobra.Command, id int64) (*rollout.Plan, error) {
	j, err := f.readJournal()
	if err != nil {
		return nil, err
	}
	defer j.Close()
	p, plan, err := j.Proposal(c.Context(), id)
	if err != nil {
		return nil, err
	}
	if !p.Ready(time.Now()) {
		return nil, fmt.Errorf("proposal %d: %w\nits page in fleetd serve says how it stands", id, journal.ErrNotApproved)
	}
	return plan, nil
}

// refuse takes the approval back from a proposal that could not begin. One that did
// begin, and ended however it ended, stays as it is.
func (f *fleetFlags) refuse(id int64, why string) error {
	dir, err := f.stateDir()
	if err != nil {
		return err
	}
	j, err := journal.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(j.Refuse(context.Background(), id, why), j.Close())
}

// startJob starts a fleetd that carries out the plan of a proposal, or goes on with a run,
// in a session of its own: it goes on when this process ends. What it says is in a file of
// the state folder; the channel has the last of it when it has ended with an error.
func startJob(state string, job server.Job) (<-chan error, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	number := strconv.FormatInt(job.Proposal, 10)
	argv, file := []string{os.Args[0], "apply", "--approved", number}, "proposal-"+number+".log"
	switch {
	case job.Proposal == 0:
		argv, file = []string{os.Args[0], "resume", job.Run}, "resume-"+filepath.Base(job.Run)+".log"
	case job.Run != "":
		argv[1] = "resume"
	}
	argv = append(argv, "--state", state)
	if !job.Until.IsZero() {
		argv = append(argv, "--until", job.Until.Format(time.RFC3339))
	}
	out, err := os.OpenFile(filepath.Join(state, file), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	before, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	child := &exec.Cmd{Path: self, Args: argv, Stdout: out, Stderr: out, SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
	if err := child.Start(); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	ended := make(chan error, 1)
	go func() {
		defer out.Close()
		defer close(ended)
		if err := child.Wait(); err != nil {
			ended <- lastWords(out, before, err)
		}
	}()
	return ended, nil
}

// lastWords are what a fleetd has said last since a place in a file, from where it speaks
// of an error; how it ended, if it does not.
func lastWords(file *os.File, since int64, ended error) error {
	const most = 64 << 10
	end, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return ended
	}
	since = max(since, end-most)
	raw, err := io.ReadAll(io.NewSectionReader(file, since, end-since))
	at := bytes.LastIndex(raw, []byte("fleetd: "))
	if err != nil || at < 0 {
		return ended
	}
	return errors.New(strings.TrimSpace(string(raw[at+len("fleetd: "):])))
}
