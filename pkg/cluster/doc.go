// Package cluster is what fleetd knows of a Kubernetes cluster with Calico and
// what it does to one, through client-go.
//
// It reads two sections of a host's state: "kubernetes", the Node object of a
// host ([Node]), and "calico", the cluster itself on localhost ([Facts]). It
// writes through nine modules: fleetd.cluster.drain, ready and uncordon on nodes;
// fleetd.calico.preflight, api_endpoint, kube_proxy, dataplane,
// external_service_mode and verify on localhost. [Client.Members] says who votes
// in etcd, and [Lease] keeps a second bastion off the cluster.
//
// What is true here:
//
//   - Whether a change has arrived is judged by what happened (a DaemonSet's
//     generation, observedGeneration and pod counts, FelixConfiguration's
//     bpfEnabled), not by TigeraStatus alone, which lags behind by seconds and
//     on a quick roll never moves.
//   - FelixConfiguration's bpfEnabled is the operator's. Nothing here sets it.
//   - A Node that was cordoned by somebody else, or by fleetd on another machine,
//     stays cordoned.
//   - What is waited for on many nodes is watched, not listed ([view]): a drain of
//     250 nodes costs a few requests a second besides its evictions.
//   - Every write to the API server is noted as a [rollout.Operation] by the
//     connection itself ([Connect]).
//   - Every call of Do and Undo is short, and decides by the run's clock: what it
//     has to remember are notes on its outcome.
//   - Diff is pure and leaves out what moves by itself (pods, readiness), so
//     that a reviewed plan does not go stale over night.
//
// The rights that are needed are in deploy/rbac.yaml.
package cluster
