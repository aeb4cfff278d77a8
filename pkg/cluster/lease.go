package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
)

const (
	// leaseName is the Lease in kube-system that one run at a time holds.
	leaseName = "fleetd"
	// runAnnotation is the run's ID on it; its holderIdentity is the person.
	runAnnotation = "fleetd.io/run"
	// renewEvery is how often a run says that it lives.
	renewEvery = 15 * time.Second
	// writeTries bounds how often a write that met another is tried anew.
	writeTries = 5
)

// Lease is the right of one run to change the cluster, against fleetds on other
// machines. It does not run out: a run that crashed may have left nodes drained
// or on trial, and only a person can tell that nobody will come back to it.
type Lease struct {
	client      *Client
	run, holder string
	// term is the Lease's leaseTransitions when it was taken. It tells this hold
	// from a later one of the same run.
	term int32
	lost chan struct{}
	once sync.Once
}

// LeaseHeld is that a run holds the cluster. As an error it is what forbids
// another to begin.
type LeaseHeld struct {
	Run string
	// Holder is who runs it and where: "alice@bastion1".
	Holder string
	// Since and Renewed are by the clock of the holder's machine.
	Since, Renewed time.Time
}

func (h *LeaseHeld) Error() string {
	return fmt.Sprintf("cannot take the cluster: run %s of %s holds it since %s, last renewed %s ago",
		orWord(h.Run, "(unknown)"), h.Holder, h.Since.UTC().Format("2006-01-02 15:04:05 UTC"), max(0, time.Since(h.Renewed)).Round(time.Second))
}

// Hint is the second line of the message.
func (h *LeaseHeld) Hint() string {
	return fmt.Sprintf("wait for it; if it was interrupted, `fleetd resume %[1]s` where it ran; if that fleetd is gone for good, `fleetd unlock %[1]s`", h.Run)
}

// heldBy reads who holds a Lease, nil if nobody does.
func heldBy(l *coordinationv1.Lease) *LeaseHeld {
	if l.Spec.HolderIdentity == nil || *l.Spec.HolderIdentity == "" {
		return nil
	}
	h := &LeaseHeld{Run: l.Annotations[runAnnotation], Holder: *l.Spec.HolderIdentity}
	if l.Spec.AcquireTime != nil {
		h.Since = l.Spec.AcquireTime.Time
	}
	if l.Spec.RenewTime != nil {
		h.Renewed = l.Spec.RenewTime.Time
	}
	return h
}

func (c *Client) leases() coordinationclient.LeaseInterface {
	return c.Kube.CoordinationV1().Leases(kubeNamespace)
}

// LeaseHolder says which run holds the cluster, nil if none does.
func (c *Client) LeaseHolder(ctx context.Context) (*LeaseHeld, error) {
	l, err := c.leases().Get(ctx, leaseName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, c.Explain(err, "read who holds the cluster (Lease %s/%s)", kubeNamespace, leaseName)
	}
	return heldBy(l), nil
}

// AcquireLease takes the cluster for a run: when it is free, or held by this
// same run, which a crash has interrupted. Else the error is a *LeaseHeld.
func (c *Client) AcquireLease(ctx context.Context, run, holder string) (*Lease, error) {
	lease := &Lease{client: c, run: run, holder: holder, lost: make(chan struct{})}
	err := c.changeLease(ctx, true, func(l *coordinationv1.Lease) error {
		held := heldBy(l)
		if held != nil && held.Run != run {
			return held
		}
		now := metav1.NowMicro()
		if held == nil {
			l.Spec.AcquireTime = &now
		}
		// No duration: that is how long others have to wait before they may take a
		// Lease by force, and nobody may.
		l.Spec.HolderIdentity, l.Spec.RenewTime = &holder, &now
		metav1.SetMetaDataAnnotation(&l.ObjectMeta, runAnnotation, run)
		lease.term = 1
		if l.Spec.LeaseTransitions != nil {
			lease.term = *l.Spec.LeaseTransitions + 1
		}
		l.Spec.LeaseTransitions = &lease.term
		return nil
	})
	if err != nil {
		return nil, c.explainLease(err, "take the cluster")
	}
	c.by = signature{holder, run}
	return lease, nil
}

// Unlock takes the cluster from a run whose fleetd is gone for good. The run has
// to be named, so that nobody takes it from a run that he does not know of.
func (c *Client) Unlock(ctx context.Context, run string) error {
	err := c.changeLease(ctx, false, func(l *coordinationv1.Lease) error {
		held := heldBy(l)
		switch {
		case held == nil:
			return errNotHeld
		case held.Run != run:
			return &Error{
				Doing: "unlock run " + run, Err: fmt.Errorf("it is run %s of %s that holds the cluster", orWord(held.Run, "(unknown)"), held.Holder),
				What: fmt.Sprintf("if that one is gone for good: fleetd unlock %s", held.Run),
			}
		}
		free(l)
		return nil
	})
	if apierrors.IsNotFound(err) {
		err = errNotHeld
	}
	if errors.Is(err, errNotHeld) {
		return &Error{Doing: "unlock run " + run, Err: errNotHeld, What: "there is nothing to unlock: begin or resume a run"}
	}
	return c.explainLease(err, "unlock run "+run)
}

var errNotHeld = errors.New("no run holds the cluster")

func free(l *coordinationv1.Lease) {
	l.Spec.HolderIdentity, l.Spec.AcquireTime, l.Spec.RenewTime = nil, nil, nil
	delete(l.Annotations, runAnnotation)
}

// changeLease reads the Lease, changes it and writes it back. The write carries
// the resourceVersion that was read: of two that change it at once one loses,
// and looks again.
func (c *Client) changeLease(ctx context.Context, create bool, change func(*coordinationv1.Lease) error) error {
	for try := 1; ; try++ {
		l, err := c.leases().Get(ctx, leaseName, metav1.GetOptions{})
		missing := create && apierrors.IsNotFound(err)
		if missing {
			l, err = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: leaseName, Namespace: kubeNamespace}}, nil
		}
		if err != nil {
			return err
		}
		if err := change(l); err != nil {
			return err
		}
		if missing {
			_, err = c.leases().Create(ctx, l, metav1.CreateOptions{FieldManager: FieldManager})
		} else {
			_, err = c.leases().Update(ctx, l, metav1.UpdateOptions{FieldManager: FieldManager})
		}
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) || try == writeTries {
			return err
		}
	}
}

func (c *Client) explainLease(err error, doing string) error {
	var held *LeaseHeld
	if errors.As(err, &held) {
		return err
	}
	return c.Explain(err, "%s (Lease %s/%s)", doing, kubeNamespace, leaseName)
}

// mine reports whether a Lease is still in this hold.
func (l *Lease) mine(now *coordinationv1.Lease) bool {
	held := heldBy(now)
	return held != nil && held.Run == l.run && held.Holder == l.holder &&
		now.Spec.LeaseTransitions != nil && *now.Spec.LeaseTransitions == l.term
}

// Keep renews the Lease until the context ends or it is lost. A renewal that
// fails is tried again at the next turn: nobody takes the cluster because of a
// renewal that is late.
func (l *Lease) Keep(ctx context.Context) {
	turn := time.NewTicker(renewEvery)
	defer turn.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-turn.C:
		}
		err := l.client.changeLease(ctx, false, func(now *coordinationv1.Lease) error {
			if !l.mine(now) {
				return errNotHeld
			}
			t := metav1.NowMicro()
			now.Spec.RenewTime = &t
			return nil
		})
		if errors.Is(err, errNotHeld) || apierrors.IsNotFound(err) {
			l.once.Do(func() { close(l.lost) })
			return
		}
	}
}

// Lost is closed when Keep found that the Lease is another's by now, or gone.
func (l *Lease) Lost() <-chan struct{} { return l.lost }

// Release gives the cluster back. What is another's by now is left alone.
func (l *Lease) Release(ctx context.Context) error {
	err := l.client.changeLease(ctx, false, func(now *coordinationv1.Lease) error {
		if !l.mine(now) {
			return errNotHeld
		}
		free(now)
		return nil
	})
	if errors.Is(err, errNotHeld) || apierrors.IsNotFound(err) {
		return nil
	}
	return l.client.explainLease(err, "give the cluster back")
}
