package controlplane

import (
	"bufio"
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/yaml"
)

//go:embed manifests/*.yaml
var manifests embed.FS

// A connection is what the lab itself talks to its API server with.
type connection struct {
	typed   kubernetes.Interface
	dynamic dynamic.Interface
	mapper  *restmapper.DeferredDiscoveryRESTMapper
}

func (l *Lab) connect(user string) (*connection, error) {
	config, err := l.restConfig(user)
	if err != nil {
		return nil, err
	}
	typed, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	untyped, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	disco, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	return &connection{typed, untyped, restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disco))}, nil
}

func (c *connection) ready(ctx context.Context) (bool, error) {
	_, err := c.typed.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
	return err == nil, err
}

// apply puts objects there as `kubectl apply --server-side` does.
func (c *connection) apply(ctx context.Context, objects []*unstructured.Unstructured) error {
	for _, o := range objects {
		gvk := o.GroupVersionKind()
		mapping, err := c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if err != nil {
			return fmt.Errorf("cannot apply %s %s: %w", o.GetKind(), o.GetName(), err)
		}
		var target dynamic.ResourceInterface = c.dynamic.Resource(mapping.Resource)
		if ns := o.GetNamespace(); ns != "" {
			target = c.dynamic.Resource(mapping.Resource).Namespace(ns)
		}
		if _, err := target.Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: LabUser, Force: true}); err != nil {
			return fmt.Errorf("cannot apply %s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	return nil
}

func (c *connection) applyManifest(ctx context.Context, name string) error {
	objects, err := manifest(name)
	if err != nil {
		return err
	}
	return c.apply(ctx, objects)
}

// manifest reads one of the embedded files.
func manifest(name string) ([]*unstructured.Unstructured, error) {
	b, err := manifests.ReadFile("manifests/" + name)
	if err != nil {
		return nil, err
	}
	objects, err := decodeYAML(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return objects, nil
}

func decodeYAML(b []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(b)))
	for {
		doc, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(doc, &o.Object); err != nil {
			return nil, err
		}
		if len(o.Object) > 0 { // a document may be all comment
			objects = append(objects, o)
		}
	}
}

// writeConfiguration writes what the components read besides credentials.
func (l *Lab) writeConfiguration(cfg Config) error {
	if err := os.WriteFile(filepath.Join(l.dir, "audit-policy.yaml"), []byte(auditPolicy), 0o644); err != nil {
		return err
	}
	// The log of an earlier lab in this folder is no record of this one.
	if err := os.RemoveAll(l.AuditLog()); err != nil {
		return err
	}
	if err := os.Symlink(filepath.Join(cfg.BinDir, "calico-node"), filepath.Join(l.dir, "standin", "calico-node")); err != nil {
		return err
	}
	config, err := kwokConfig(cfg)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(l.dir, "kwok.yaml"), config, 0o644)
}

// kwokConfig is manifests/kwok.yaml with the pods' delay set.
func kwokConfig(cfg Config) ([]byte, error) {
	objects, err := manifest("kwok.yaml")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, o := range objects {
		if o.GetName() == "pod-ready" && cfg.ReadyDelay > 0 {
			if err := unstructured.SetNestedField(o.Object, cfg.ReadyDelay.Milliseconds(), "spec", "delay", "durationMilliseconds"); err != nil {
				return nil, err
			}
		}
		b, err := yaml.Marshal(o.Object)
		if err != nil {
			return nil, err
		}
		out.WriteString("---\n")
		out.Write(b)
	}
	return out.Bytes(), nil
}

// populate creates what a cluster of kubeadm's has, and waits for its pods.
func (l *Lab) populate(ctx context.Context, c *connection, cfg Config) error {
	if err := l.createNodes(ctx, c, cfg.Nodes); err != nil {
		return err
	}
	if cfg.Machines != nil {
		if err := cfg.Machines(ctx, l); err != nil {
			return fmt.Errorf("cannot start the machines of the real nodes: %w", err)
		}
	}
	// Before any pod: those that wait for a first node would all go there.
	if err := l.await(ctx, "all nodes to be Ready", c.nodesReady(len(cfg.Nodes))); err != nil {
		return err
	}
	l.say("%d nodes Ready", len(cfg.Nodes))
	// The API server makes its namespaces after it has said that it is ready.
	if err := l.await(ctx, "namespace kube-system", c.namespaceExists(metav1.NamespaceSystem)); err != nil {
		return err
	}
	if err := c.applyManifest(ctx, "cluster.yaml"); err != nil {
		return err
	}
	if cfg.KubeProxyMode != "" {
		if err := l.SetKubeProxyMode(ctx, cfg.KubeProxyMode); err != nil {
			return err
		}
	}
	if cfg.Workloads {
		if err := c.applyManifest(ctx, "workloads.yaml"); err != nil {
			return err
		}
	}
	if err := l.await(ctx, "kube-proxy to run on every node", c.daemonSetRolledOut("kube-system", "kube-proxy")); err != nil {
		return err
	}
	// Mirror pods come last: the default ServiceAccount must exist for any pod.
	if err := createMirrorPods(ctx, c, cfg.Nodes); err != nil {
		return err
	}
	if hasWorker(cfg.Nodes) && cfg.Workloads {
		for _, name := range []string{"web", "worker"} {
			if err := l.await(ctx, "Deployment shop/"+name, c.deploymentAvailable("shop", name)); err != nil {
				return err
			}
		}
	}
	l.say("workloads run")
	return nil
}

func (c *connection) namespaceExists(name string) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		_, err := c.typed.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		return err == nil, err
	}
}

func (c *connection) daemonSetRolledOut(namespace, name string) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		ds, err := c.typed.AppsV1().DaemonSets(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		s := ds.Status
		return s.ObservedGeneration >= ds.Generation && s.DesiredNumberScheduled > 0 &&
			s.UpdatedNumberScheduled == s.DesiredNumberScheduled && s.NumberAvailable == s.DesiredNumberScheduled, nil
	}
}

func (c *connection) deploymentAvailable(namespace, name string) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		d, err := c.typed.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		return d.Status.ObservedGeneration >= d.Generation && d.Status.AvailableReplicas == *d.Spec.Replicas, nil
	}
}
