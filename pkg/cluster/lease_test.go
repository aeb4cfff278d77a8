package cluster

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"

	"github.com/fleetd/fleetd/pkg/rollout"
)

var leaseResource = coordinationv1.SchemeGroupVersion.WithResource("leases")

// locking makes the fake refuse a write of a Lease that has changed since it was
// read, as the API server does; the fake alone takes every write.
func (f fakes) locking(t *testing.T) {
	t.Helper()
	var mu sync.Mutex
	version := 0
	f.kube.PrependReactor("*", "leases", func(a clienttesting.Action) (bool, runtime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		var l *coordinationv1.Lease
		switch a := a.(type) {
		case clienttesting.UpdateAction: // a CreateAction has the same methods
			l = a.GetObject().(*coordinationv1.Lease).DeepCopy()
		default:
			return false, nil, nil
		}
		if a.GetVerb() == "update" {
			stored, err := f.kube.Tracker().Get(leaseResource, a.GetNamespace(), l.Name)
			if err != nil {
				return true, nil, err
			}
			if stored.(*coordinationv1.Lease).ResourceVersion != l.ResourceVersion {
				return true, nil, apierrors.NewConflict(leaseResource.GroupResource(), l.Name, errors.New("the object has been modified"))
			}
		}
		version++
		l.ResourceVersion = strconv.Itoa(version)
		if a.GetVerb() == "create" {
			return true, l, f.kube.Tracker().Create(leaseResource, l, a.GetNamespace())
		}
		return true, l, f.kube.Tracker().Update(leaseResource, l, a.GetNamespace())
	})
}

func TestLeaseIsOneRunsAtATime(t *testing.T) {
	f := newFakes(t)
	f.locking(t)
	ctx := context.Background()
	if h, err := f.LeaseHolder(ctx); h != nil || err != nil {
		t.Fatal(h, err)
	}
	first, err := f.AcquireLease(ctx, "r1", "alice@bastion1")
	if err != nil {
		t.Fatal(err)
	}
	h, err := f.LeaseHolder(ctx)
	if err != nil || h == nil || h.Run != "r1" || h.Holder != "alice@bastion1" || h.Since.IsZero() || h.Renewed.IsZero() {
		t.Fatalf("%+v, %v", h, err)
	}

	// However old the hold is, nobody takes it.
	f.changeStored(t, func(l *coordinationv1.Lease) {
		old := metav1.NewMicroTime(time.Now().Add(-48 * time.Hour))
		l.Spec.AcquireTime, l.Spec.RenewTime = &old, &old
	})
	_, err = f.AcquireLease(ctx, "r2", "bob@bastion2")
	var held *LeaseHeld
	if !errors.As(err, &held) || held.Run != "r1" || held.Holder != "alice@bastion1" {
		t.Fatalf("%v", err)
	}
	p := rollout.AsProblem(err)
	for _, want := range []string{"run r1 of alice@bastion1", held.Since.UTC().Format("2006-01-02 15:04:05"), "last renewed 48h0m"} {
		if !strings.Contains(p.Message, want) {
			t.Errorf("%q is not in %q", want, p.Message)
		}
	}
	for _, want := range []string{"wait for it", "fleetd resume r1", "fleetd unlock r1"} {
		if !strings.Contains(p.Hint, want) {
			t.Errorf("%q is not in %q", want, p.Hint)
		}
	}

	// The run itself goes on after a crash; what the crashed one still holds is
	// worth nothing then.
	second, err := f.AcquireLease(ctx, "r1", "alice@bastion1")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := f.LeaseHolder(ctx); err != nil || !again.Since.Equal(held.Since) || !again.Renewed.After(held.Renewed) {
		t.Errorf("%+v, %v", again, err)
	}
	if err := first.Release(ctx); err != nil {
		t.Fatal(err)
	}
	if h, _ := f.LeaseHolder(ctx); h == nil {
		t.Fatal("a hold that was taken over gave the Lease back")
	}
	if err := second.Release(ctx); err != nil {
		t.Fatal(err)
	}
	if h, err := f.LeaseHolder(ctx); h != nil || err != nil {
		t.Fatalf("%+v, %v", h, err)
	}
	if _, err := f.AcquireLease(ctx, "r2", "bob@bastion2"); err != nil {
		t.Fatal(err)
	}
}

func (f fakes) changeStored(t *testing.T, change func(*coordinationv1.Lease)) {
	t.Helper()
	o, err := f.kube.Tracker().Get(leaseResource, kubeNamespace, leaseName)
	if err != nil {
		t.Fatal(err)
	}
	l := o.(*coordinationv1.Lease).DeepCopy()
	change(l)
	l.ResourceVersion += "x"
	if err := f.kube.Tracker().Update(leaseResource, l, kubeNamespace); err != nil {
		t.Fatal(err)
	}
}

// Two bastions that read a free Lease at the same moment: one wins, and the
// other is told of it.
func TestTwoBastionsAtOnce(t *testing.T) {
	for name, exists := range map[string]bool{"there is no Lease": false, "a free one": true} {
		t.Run(name, func(t *testing.T) {
			f := newFakes(t)
			f.locking(t)
			ctx := context.Background()
			if exists {
				l, err := f.AcquireLease(ctx, "r0", "x@y")
				if err != nil {
					t.Fatal(err)
				}
				if err := l.Release(ctx); err != nil {
					t.Fatal(err)
				}
			}
			// The other one comes between our reading and our writing.
			bob := "bob@bastion2"
			theirs := &coordinationv1.Lease{
				ObjectMeta: metav1.ObjectMeta{Name: leaseName, Namespace: kubeNamespace, ResourceVersion: "theirs", Annotations: map[string]string{runAnnotation: "r2"}},
				Spec:       coordinationv1.LeaseSpec{HolderIdentity: &bob},
			}
			came := false
			f.kube.PrependReactor("*", "leases", func(a clienttesting.Action) (bool, runtime.Object, error) {
				if came || a.GetVerb() == "get" {
					return false, nil, nil
				}
				came = true
				if exists {
					return false, nil, f.kube.Tracker().Update(leaseResource, theirs, kubeNamespace)
				}
				return false, nil, f.kube.Tracker().Create(leaseResource, theirs, kubeNamespace)
			})
			_, err := f.AcquireLease(ctx, "r1", "alice@bastion1")
			var held *LeaseHeld
			if !errors.As(err, &held) || held.Run != "r2" || !came {
				t.Errorf("%v", err)
			}
		})
	}
}

// A write that is always in conflict is not tried for ever.
func TestLeaseConflictEnds(t *testing.T) {
	f := newFakes(t)
	f.kube.PrependReactor("create", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewConflict(leaseResource.GroupResource(), leaseName, errors.New("no"))
	})
	if _, err := f.AcquireLease(context.Background(), "r1", "a@b"); err == nil || !strings.Contains(err.Error(), "cannot take the cluster (Lease kube-system/fleetd): ") {
		t.Error(err)
	}
	if n := len(f.writes()); n != writeTries {
		t.Errorf("%d tries", n)
	}
}

func TestUnlock(t *testing.T) {
	f := newFakes(t)
	f.locking(t)
	ctx := context.Background()
	if err := f.Unlock(ctx, "r1"); err == nil || err.Error() != "cannot unlock run r1: no run holds the cluster" {
		t.Error(err)
	}
	if _, err := f.AcquireLease(ctx, "r1", "alice@bastion1"); err != nil {
		t.Fatal(err)
	}
	if err := f.Unlock(ctx, "r2"); err == nil || err.Error() != "cannot unlock run r2: it is run r1 of alice@bastion1 that holds the cluster" {
		t.Error(err)
	}
	if h, _ := f.LeaseHolder(ctx); h == nil {
		t.Fatal("the wrong name unlocked it")
	}
	if err := f.Unlock(ctx, "r1"); err != nil {
		t.Error(err)
	}
	if h, err := f.LeaseHolder(ctx); h != nil || err != nil {
		t.Errorf("%+v, %v", h, err)
	}
	if err := f.Unlock(ctx, "r1"); err == nil || err.Error() != "cannot unlock run r1: no run holds the cluster" {
		t.Error(err)
	}
}

func TestLeaseIsKept(t *testing.T) {
	for name, end := range map[string]func(*testing.T, fakes){
		"taken by another": func(t *testing.T, f fakes) {
			if err := f.Unlock(context.Background(), "r1"); err != nil {
				t.Fatal(err)
			}
			if _, err := f.AcquireLease(context.Background(), "r2", "bob@bastion2"); err != nil {
				t.Fatal(err)
			}
		},
		"taken up again by the same run": func(t *testing.T, f fakes) {
			if _, err := f.AcquireLease(context.Background(), "r1", "alice@bastion1"); err != nil {
				t.Fatal(err)
			}
		},
		"deleted": func(t *testing.T, f fakes) {
			if err := f.kube.Tracker().Delete(leaseResource, kubeNamespace, leaseName); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakes(t)
				f.locking(t)
				away := false
				f.kube.PrependReactor("*", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
					return away, nil, apierrors.NewServiceUnavailable("etcd has no leader")
				})
				ctx := t.Context()
				l, err := f.AcquireLease(ctx, "r1", "alice@bastion1")
				if err != nil {
					t.Fatal(err)
				}
				renewed := func() time.Duration {
					h, err := f.LeaseHolder(ctx)
					if err != nil || h == nil {
						t.Fatal(h, err)
					}
					return time.Since(h.Renewed)
				}
				go l.Keep(ctx)
				time.Sleep(5 * time.Minute)
				if d := renewed(); d > renewEvery {
					t.Errorf("not renewed for %s", d)
				}
				away = true // an API server that is away is no loss
				time.Sleep(10 * time.Minute)
				away = false
				time.Sleep(2 * renewEvery)
				if d := renewed(); d > renewEvery {
					t.Errorf("not renewed for %s", d)
				}
				select {
				case <-l.Lost():
					t.Error("called lost, and is not")
				default:
				}
				end(t, f)
				time.Sleep(2 * renewEvery)
				select {
				case <-l.Lost():
				default:
					t.Error("lost, and nobody was told")
				}
				before, _ := f.LeaseHolder(ctx)
				if err := l.Release(ctx); err != nil {
					t.Error(err)
				}
				if after, _ := f.LeaseHolder(ctx); (before == nil) != (after == nil) {
					t.Errorf("what is another's was given back: %+v, %+v", before, after)
				}
			})
		})
	}
}

// Keep ends with its context, and the Lease stays this run's.
func TestKeepEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakes(t)
		l, err := f.AcquireLease(t.Context(), "r1", "a@b")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { l.Keep(ctx); close(ended) }()
		time.Sleep(time.Minute)
		cancel()
		<-ended
		if h, err := f.LeaseHolder(t.Context()); err != nil || h == nil || h.Run != "r1" {
			t.Errorf("%+v, %v", h, err)
		}
	})
}

func TestLeaseNeedsRights(t *testing.T) {
	f := newFakes(t)
	f.kube.PrependReactor("get", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}, leaseName,
			errors.New(`User "deployer" cannot get resource "leases" in API group "coordination.k8s.io" in the namespace "kube-system"`))
	})
	_, err := f.AcquireLease(context.Background(), "r1", "a@b")
	if p := rollout.AsProblem(err); err == nil || !strings.Contains(p.Hint, "kubectl auth can-i get leases.coordination.k8s.io -n kube-system") {
		t.Errorf("%+v", p)
	}
}
