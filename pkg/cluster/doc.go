// Package cluster is what fleetd knows of a Kubernetes cluster and its nodes and
// what it does to them, through client-go. What is Calico's is pkg/calico's,
// which stands on this package.
//
// It reads one section of a host's state: "kubernetes", its Node object
// ([Node]). It writes through three modules: fleetd.cluster.drain, ready and
// uncordon. [Client.Members] says who votes in etcd, and [Lease] keeps a second
// bastion off the cluster.
//
// What is true here:
//
//   - A Node that was cordoned by somebody else, or by fleetd on another machine,
//     stays cordoned.
//   - What is waited for on many nodes is watched, not listed ([view]): a drain of
//     250 nodes costs a few requests a second besides its evictions.
//   - Every write to the API server is noted as a [rollout.Operation] by the
//     connection itself ([Connect]).
//   - Every call of Do and Undo is short, and decides by the run's clock: what it
//     has to remember are notes on its outcome ([Call]).
//
// The rights that are needed are in deploy/rbac.yaml.
package cluster
