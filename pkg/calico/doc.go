// Package calico is what fleetd knows of a cluster's Calico and what it does to
// it: the move to the eBPF data plane, and back.
//
// It reads three sections of localhost's state: "calico", the cluster itself
// ([Facts]), "calico_api", the nodes from which the API server does not answer
// where Calico is to find it, asked over SSH, and "calico_services", the Services that
// can be asked for. It writes through modules on localhost: fleetd.calico.preflight,
// probe, api_endpoint, kube_proxy, dataplane, external_service_mode and verify.
//
// What is true here:
//
//   - Whether a change has arrived is judged by what happened (a DaemonSet's
//     generation, observedGeneration and pod counts, FelixConfiguration's
//     bpfEnabled), not by TigeraStatus alone, which lags behind by seconds and
//     on a quick roll never moves.
//   - bpfEnabled is a request. That Felix follows it is seen on every node, over
//     SSH (Deps.prove), before kube-proxy is touched and again at the end. A flip
//     that is not seen on every node goes back by itself.
//   - What Services answer is asked from every node and from the bastion, by scripts
//     of package probe that run there from fleetd.calico.probe to verify. A path that
//     answered before and does not any more takes the flip back.
//   - FelixConfiguration's bpfEnabled is the operator's. Nothing here sets it. In
//     automatic mode (automatic.go) kube-proxy is, too, but only once nodes are proven.
//   - Diff is pure and leaves out what moves by itself (pods, readiness), so
//     that a reviewed plan does not go stale over night.
//
// The rights that are needed: get and list on nodes, pods, services, configmaps,
// daemonsets, deployments, installations and tigerastatuses (operator.tigera.io)
// and felixconfigurations (crd.projectcalico.org, or projectcalico.org where
// Calico uses that); get on the namespace
// kube-system; patch on daemonsets, installations and felixconfigurations;
// create, patch and delete on configmaps in tigera-operator.
package calico
