package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// interruptible returns a context and a channel for the two stages of Ctrl-C:
// the first signal closes ease (no new steps), the second cancels the context
// (running steps are abandoned; the journal knows them).
// Losing the lease to another bastion counts as the first.
func interruptible(c *cobra.Command, lost <-chan struct{}) (ctx context.Context, ease <-chan struct{}, stop func()) {
	ctx, cancel := context.WithCancel(c.Context())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	first := make(chan struct{})
	done := make(chan struct{})
	go func() {
		eased := false
		for {
			why := "Interrupted"
			select {
			case <-signals:
			case <-lost:
				why, lost = "Another bastion has taken the cluster's lock", nil
			case <-done:
				return
			}
			switch {
			case !eased:
				fmt.Fprintln(c.ErrOrStderr(), "\n"+why+": running steps come to their end, no other starts. Once more abandons them.")
				eased = true
				close(first)
			case why == "Interrupted":
				cancel()
			}
		}
	}()
	return ctx, first, sync.OnceFunc(func() {
		signal.Stop(signals)
		close(done)
		cancel()
	})
}

// cancelOnInterrupt returns a context that ends with the first signal, for
// verbs that only look.
func cancelOnInterrupt(c *cobra.Command) (context.Context, func()) {
	return signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
