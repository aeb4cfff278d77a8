package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"os/user"
	"syscall"
	"time"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// hold is the right to change a fleet: the journal of this bastion, under the
// run lock, and the lease in the cluster that keeps other bastions out. It is
// taken before the fleet is looked at, so that what was seen still holds when it
// is acted on.
type hold struct {
	run     string
	journal *journal.Journal
	lock    *journal.Lock
	lease   *cluster.Lease
	// keeping ends the renewal of the lease.
	keeping context.CancelFunc
	// interrupted ends with a signal that comes before the run begins: dying of it
	// would leave the lease behind.
	interrupted context.Context
	// deaf ends it: somebody else listens to signals from here on.
	deaf context.CancelFunc
}

// take opens the journal under the run lock.
func take(f *fleetFlags, run string) (*hold, error) {
	dir, err := f.stateDir()
	if err != nil {
		return nil, err
	}
	lock, err := journal.Acquire(dir, run)
	if err != nil {
		return nil, err
	}
	j, err := journal.Open(dir)
	if err != nil {
		return nil, errors.Join(err, lock.Release())
	}
	h := &hold{run: run, journal: j, lock: lock}
	h.interrupted, h.deaf = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	return h, nil
}

// takeCluster also keeps other bastions out. Without a cluster there is nothing
// that bastions could meet in.
func (h *hold) takeCluster(ctx context.Context, c *cluster.Client, by rollout.Person) error {
	if c == nil {
		return nil
	}
	lease, err := c.AcquireLease(ctx, h.run, by.String())
	if err != nil {
		return err
	}
	keep, stop := context.WithCancel(context.WithoutCancel(ctx))
	h.lease, h.keeping = lease, stop
	go lease.Keep(keep)
	return nil
}

// lost is closed when another bastion has taken the lease.
func (h *hold) lost() <-chan struct{} {
	if h.lease == nil {
		return nil
	}
	return h.lease.Lost()
}

// leaveTime is how long giving the lease back may take: the run is over, and an
// API server that is away must not hold the person.
const leaveTime = 10 * time.Second

// release gives everything back. A lease that cannot be given back is told: the
// next run of another bastion will ask about it.
func (h *hold) release() error {
	var errs []error
	if h.lease != nil {
		h.keeping()
		ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
		defer cancel()
		if err := h.lease.Release(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%w\n  the lease stays with this run: fleetd unlock %s", err, h.run))
		}
		h.lease = nil
	}
	h.deaf()
	if h.journal != nil {
		errs = append(errs, h.journal.Close(), h.lock.Release())
		h.journal = nil
	}
	return errors.Join(errs...)
}

// whoami is who types here. Behind sudo it is who called it: root is nobody.
func whoami() rollout.Person {
	var p rollout.Person
	if u, err := user.Current(); err == nil {
		p.User = u.Username
	}
	if u := os.Getenv("SUDO_USER"); u != "" {
		p.User = u
	}
	p.Host, _ = os.Hostname() // empty says as much
	return p
}
