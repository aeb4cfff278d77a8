//go:build tools

// Package tools pins etcd and the Kubernetes programs that the lab builds.
//
// k8s.io/kubernetes asks for its staging modules at v0.0.0, so every one of
// them needs a replace line at the matching v0.34 release. The operator and
// kwok want other Kubernetes libraries: hence three modules, not one.
package tools

import (
	_ "go.etcd.io/etcd/server/v3"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
	_ "k8s.io/kubernetes/cmd/kube-proxy"
	_ "k8s.io/kubernetes/cmd/kube-scheduler"
	_ "k8s.io/kubernetes/cmd/kubelet"
)
