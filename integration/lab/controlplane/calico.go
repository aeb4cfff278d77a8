package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// Resources of the operator and of Calico, for Lab.Dynamic.
var (
	Installations       = schema.GroupVersionResource{Group: "operator.tigera.io", Version: "v1", Resource: "installations"}
	TigeraStatuses      = schema.GroupVersionResource{Group: "operator.tigera.io", Version: "v1", Resource: "tigerastatuses"}
	FelixConfigurations = schema.GroupVersionResource{Group: "crd.projectcalico.org", Version: "v1", Resource: "felixconfigurations"}
)

var definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// calicoNodeUser is who the stand-in for calico-node is to the API server.
const calicoNodeUser = "fleetd-lab:calico-node"

// installCalico does what an administrator does: definitions, operator,
// Installation; then it waits until the operator calls Calico available.
func (l *Lab) installCalico(ctx context.Context, c *connection, cfg Config) error {
	crds, err := calicoDefinitions(ctx, cfg.BinDir)
	if err != nil {
		return err
	}
	if err := c.apply(ctx, crds); err != nil {
		return err
	}
	if err := l.await(ctx, "Calico's definitions to be established", c.established(len(crds))); err != nil {
		return err
	}
	// The kinds are new to the discovery cache.
	c.mapper.Reset()
	l.say("%d definitions of Calico %s established", len(crds), CalicoVersion)
	if err := c.applyManifest(ctx, "operator.yaml"); err != nil {
		return err
	}
	if err := l.launch(operator(cfg.BinDir, l.dir)); err != nil {
		return err
	}
	installation, err := manifest("installation.yaml")
	if err != nil {
		return err
	}
	if cfg.Machines != nil {
		// Two drivers for volumes, of which a real node has no images.
		for _, path := range []string{"flexVolumePath", "kubeletVolumePluginPath"} {
			if err := unstructured.SetNestedField(installation[0].Object, "None", "spec", path); err != nil {
				return err
			}
		}
	}
	if err := c.apply(ctx, installation); err != nil {
		return err
	}
	l.say("operator started, Installation created")
	if err := l.await(ctx, "Calico to be available", c.calicoAvailable); err != nil {
		return err
	}
	l.say("Calico available")
	return nil
}

// calicoDefinitions asks the operator for the definitions that go with it,
// Calico's and its own.
func calicoDefinitions(ctx context.Context, bin string) ([]*unstructured.Unstructured, error) {
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "tigera-operator"), "--print-calico-crds", "all").Output()
	if err != nil {
		return nil, fmt.Errorf("cannot print Calico's definitions: %w", err)
	}
	crds, err := decodeYAML(out)
	if err != nil {
		return nil, fmt.Errorf("cannot read Calico's definitions: %w", err)
	}
	return crds, nil
}

func (c *connection) established(want int) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		list, err := c.dynamic.Resource(definitions).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		n := 0
		for _, crd := range list.Items {
			if condition(&crd, "Established") == "True" {
				n++
			}
		}
		return n >= want, nil
	}
}

// calicoAvailable wants the operator's word, in all its places, and the
// DaemonSet's own numbers: TigeraStatus alone lags by some seconds.
func (c *connection) calicoAvailable(ctx context.Context) (bool, error) {
	status, err := c.dynamic.Resource(TigeraStatuses).Get(ctx, "calico", metav1.GetOptions{})
	if err != nil {
		return false, err
	}
	if condition(status, "Available") != "True" {
		return false, fmt.Errorf("TigeraStatus calico: Available %q, Progressing %q, Degraded %q",
			condition(status, "Available"), condition(status, "Progressing"), condition(status, "Degraded"))
	}
	// The Installation's own status comes later still.
	installation, err := c.dynamic.Resource(Installations).Get(ctx, "default", metav1.GetOptions{})
	if err != nil {
		return false, err
	}
	if v, _, _ := unstructured.NestedString(installation.Object, "status", "calicoVersion"); v == "" {
		return false, errors.New("the Installation default has no status.calicoVersion")
	}
	return c.daemonSetRolledOut("calico-system", "calico-node")(ctx)
}

// condition is the status of one of the object's conditions, "" without it.
func condition(o *unstructured.Unstructured, kind string) string {
	conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, c := range conditions {
		if m, ok := c.(map[string]any); ok && m["type"] == kind {
			s, _ := m["status"].(string)
			return s
		}
	}
	return ""
}

// SetKubeProxyMode writes the mode ("", "iptables", "ipvs" or "nftables") into
// kube-proxy's ConfigMap, as an administrator would who edits it. Running
// kube-proxy pods do not read it again until they are restarted.
func (l *Lab) SetKubeProxyMode(ctx context.Context, mode string) error {
	client, err := l.Client()
	if err != nil {
		return err
	}
	maps := client.CoreV1().ConfigMaps(metav1.NamespaceSystem)
	for {
		cm, err := maps.Get(ctx, "kube-proxy", metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("cannot set kube-proxy's mode: %w", err)
		}
		var config map[string]any
		if err := yaml.Unmarshal([]byte(cm.Data["config.conf"]), &config); err != nil {
			return fmt.Errorf("cannot set kube-proxy's mode: config.conf: %w", err)
		}
		config["mode"] = mode
		b, err := yaml.Marshal(config)
		if err != nil {
			return fmt.Errorf("cannot set kube-proxy's mode: %w", err)
		}
		cm.Data["config.conf"] = string(b)
		if _, err = maps.Update(ctx, cm, metav1.UpdateOptions{}); err == nil {
			return nil
		}
		if !apierrors.IsConflict(err) {
			return fmt.Errorf("cannot set kube-proxy's mode: %w", err)
		}
		time.Sleep(50 * time.Millisecond) // somebody else edited it: read again
	}
}
