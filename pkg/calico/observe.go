package calico

import (
	"context"
	"fmt"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// Observers returns the observers of localhost's sections: "calico", the cluster,
// "calico_api", from where the API server answers, and "calico_services", which
// Services can be asked for; and of "felix", what a host shows of its Felix. With a
// nil client the observation of the cluster is the error that none is configured.
func Observers(d Deps) []rollout.Observer {
	return []rollout.Observer{&clusterObserver{d.Client}, reachObserver{d}, servicesObserver{d}, felixObserver{d}}
}

type clusterObserver struct{ client *cluster.Client }

func (*clusterObserver) Section() string { return Section.Name() }

func (o *clusterObserver) Observe(ctx context.Context, keys map[string][]string) map[string]rollout.SectionObservation {
	out := make(map[string]rollout.SectionObservation, len(keys))
	var f Facts
	var id map[string]string
	var err error
	if _, ok := keys[rollout.Localhost]; ok {
		if f, err = ReadFacts(ctx, o.client); err == nil {
			id, err = o.client.Identity(ctx)
		}
	}
	for h := range keys {
		if h != rollout.Localhost {
			out[h] = rollout.SectionObservation{Err: &rollout.Problem{
				Message: fmt.Sprintf("cannot read the cluster on %s: tasks about the cluster run once, on localhost", h),
				Hint:    "put them in a play with hosts: localhost",
			}}
			continue
		}
		so := cluster.Observation(f, err)
		so.Identity = id
		out[h] = so
	}
	return out
}
