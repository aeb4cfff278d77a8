package calico

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fleetd/fleetd/pkg/cluster"
)

const (
	operatorNamespace = "tigera-operator"
	calicoNamespace   = "calico-system"
	// defaultName is the name of the one Installation and the one
	// FelixConfiguration that count.
	defaultName = "default"
	// endpointName is the ConfigMap in the operator's namespace that tells
	// Calico where the API server is.
	endpointName = "kubernetes-services-endpoint"
	// bpfAnnotation is the operator's note on FelixConfiguration of the
	// bpfEnabled that it set.
	bpfAnnotation = "operator.tigera.io/bpfEnabled"
)

var (
	installations    = schema.GroupVersionResource{Group: "operator.tigera.io", Version: "v1", Resource: "installations"}
	tigeraStatuses   = schema.GroupVersionResource{Group: "operator.tigera.io", Version: "v1", Resource: "tigerastatuses"}
	felixconfigsV3   = schema.GroupVersionResource{Group: "projectcalico.org", Version: "v3", Resource: "felixconfigurations"}
	felixconfigs     = schema.GroupVersionResource{Group: "crd.projectcalico.org", Version: "v1", Resource: "felixconfigurations"}
	companionsOfNode = []string{"calico-typha", "calico-kube-controllers"}
)

// part reads some fields of Facts. Parts are read in parallel, so each sets
// fields of its own.
type part func(ctx context.Context, c *cluster.Client, f *Facts) error

// allParts is everything that Facts holds.
var allParts = []part{
	readVersion, readServiceIPs, readInstallation, readEndpoint, readFelix, readCalicoNode, readCompanions,
	readTigeraStatus, readOperatorVersion, readKubeProxies, readEmbedded, readNodes,
}

// rollParts is what tells how far a change of the data plane or of the API
// endpoint has come.
var rollParts = []part{readServiceIPs, readInstallation, readEndpoint, readFelix, readCalicoNode, readCompanions, readTigeraStatus}

// ReadFacts reads the cluster.
func ReadFacts(ctx context.Context, c *cluster.Client) (Facts, error) {
	return read(ctx, c, allParts...)
}

func read(ctx context.Context, c *cluster.Client, parts ...part) (Facts, error) {
	if c == nil {
		return Facts{}, cluster.NotConfigured("read the cluster")
	}
	f := Facts{Server: c.Server}
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range parts {
		g.Go(func() error { return p(ctx, c, &f) })
	}
	if err := g.Wait(); err != nil {
		return Facts{}, c.Explain(err, "read the cluster")
	}
	switch {
	case f.Installation.Exists:
		f.Install = Operator
	case f.CalicoNode.Exists:
		f.Install = Manifest
	default:
		f.Install = NoCalico
	}
	if f.CalicoVersion == "" {
		f.CalicoVersion = imageVersion(f.CalicoNode.Image)
	}
	return f, nil
}

func readVersion(_ context.Context, c *cluster.Client, f *Facts) error {
	v, err := c.Kube.Discovery().ServerVersion()
	if err != nil {
		return c.Explain(err, "read the API server's version")
	}
	f.KubernetesVersion = v.GitVersion
	return nil
}

func readServiceIPs(ctx context.Context, c *cluster.Client, f *Facts) error {
	s, err := c.Kube.CoreV1().Services(metav1.NamespaceDefault).Get(ctx, "kubernetes", metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return c.Explain(err, "read service default/kubernetes")
	}
	if err == nil {
		f.ServiceIPs = s.Spec.ClusterIPs
		if len(f.ServiceIPs) == 0 && s.Spec.ClusterIP != "" {
			f.ServiceIPs = []string{s.Spec.ClusterIP}
		}
	}
	return nil
}

func readInstallation(ctx context.Context, c *cluster.Client, f *Facts) error {
	u, err := c.Dynamic.Resource(installations).Get(ctx, defaultName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil // no such object, or no such resource: Calico without an operator
	}
	if err != nil {
		return c.Explain(err, "read Installation %s", defaultName)
	}
	f.Installation = installationFacts(u)
	f.CalicoVersion = str(u, "status", "calicoVersion")
	return nil
}

func installationFacts(u *unstructured.Unstructured) Installation {
	return Installation{
		Exists:              true,
		Variant:             str(u, "spec", "variant"),
		LinuxDataplane:      DataPlane(str(u, "spec", "calicoNetwork", "linuxDataplane")),
		HostPorts:           str(u, "spec", "calicoNetwork", "hostPorts"),
		HostPortsNoted:      u.GetAnnotations()[hostPortsAnnotation],
		BPFNetworkBootstrap: str(u, "spec", "calicoNetwork", "bpfNetworkBootstrap"),
		KubeProxyManagement: str(u, "spec", "calicoNetwork", "kubeProxyManagement"),
		Computed:            DataPlane(str(u, "status", "computed", "calicoNetwork", "linuxDataplane")),
		ComputedKubeProxy:   str(u, "status", "computed", "calicoNetwork", "kubeProxyManagement"),
		Conditions:          conditions(u),
	}
}

func readEndpoint(ctx context.Context, c *cluster.Client, f *Facts) error {
	cm, err := c.Kube.CoreV1().ConfigMaps(operatorNamespace).Get(ctx, endpointName, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return c.Explain(err, "read ConfigMap %s/%s", operatorNamespace, endpointName)
	}
	if err == nil {
		f.Endpoint = Endpoint{Exists: true, Host: cm.Data[envHost], Port: cm.Data[envPort]}
	}
	return nil
}

func readFelix(ctx context.Context, c *cluster.Client, f *Facts) error {
	v3, err := felixReadsV3(ctx, c)
	if err != nil {
		return err
	}
	var u *unstructured.Unstructured
	if !v3 {
		u, err = c.Dynamic.Resource(felixconfigs).Get(ctx, defaultName, metav1.GetOptions{})
		v3 = apierrors.IsNotFound(err) // a new cluster may have the one group only
	}
	if v3 {
		u, err = c.Dynamic.Resource(felixconfigsV3).Get(ctx, defaultName, metav1.GetOptions{})
	}
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return c.Explain(err, "read FelixConfiguration %s", defaultName)
	}
	f.Felix = Felix{
		Exists:              true,
		V3:                  v3,
		Operator:            u.GetAnnotations()[bpfAnnotation],
		ExternalServiceMode: str(u, "spec", "bpfExternalServiceMode"),
	}
	if on, ok, _ := unstructured.NestedBool(u.Object, "spec", "bpfEnabled"); ok {
		f.Felix.BPFEnabled = fmt.Sprint(on)
	}
	return nil
}

// felixReadsV3 reports whether the operator has Calico's pods use the resources
// of projectcalico.org/v3, which from Calico 3.32 on may be definitions of their
// own. It tells them by this variable; after a migration both groups exist, and
// nobody reads the old one. Where only an API server of Calico's own serves the
// v3 group, what it stores is crd.projectcalico.org's.
func felixReadsV3(ctx context.Context, c *cluster.Client) (bool, error) {
	var f Facts
	if err := readCalicoNode(ctx, c, &f); err != nil {
		return false, err
	}
	return f.CalicoNode.Env[envAPIGroup] == felixconfigsV3.GroupVersion().String(), nil
}

func readTigeraStatus(ctx context.Context, c *cluster.Client, f *Facts) error {
	l, err := c.Dynamic.Resource(tigeraStatuses).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return c.Explain(err, "list TigeraStatus")
	}
	for i := range l.Items {
		f.TigeraStatus = append(f.TigeraStatus, TigeraStatus{Name: l.Items[i].GetName(), Conditions: conditions(&l.Items[i])})
	}
	slices.SortFunc(f.TigeraStatus, func(a, b TigeraStatus) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

func readOperatorVersion(ctx context.Context, c *cluster.Client, f *Facts) error {
	d, err := c.Kube.AppsV1().Deployments(operatorNamespace).Get(ctx, "tigera-operator", metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return c.Explain(err, "read Deployment %s/tigera-operator", operatorNamespace)
	}
	if err == nil && len(d.Spec.Template.Spec.Containers) > 0 {
		f.OperatorVersion = imageVersion(d.Spec.Template.Spec.Containers[0].Image)
	}
	return nil
}

func readNodes(ctx context.Context, c *cluster.Client, f *Facts) error {
	nodes, err := c.Nodes(ctx)
	f.Nodes = nodes
	return err
}

// conditions reads status.conditions.
func conditions(u *unstructured.Unstructured) []Condition {
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	var out []Condition
	for _, item := range list {
		m, ok := item.(map[string]any)
		if !ok {
			continue
		}
		text := func(k string) string { s, _ := m[k].(string); return s }
		out = append(out, Condition{Type: text("type"), Status: text("status"), Reason: text("reason"), Message: text("message")})
	}
	return out
}

// str reads a string field; "" where it is missing, null or no string.
func str(u *unstructured.Unstructured, path ...string) string {
	s, _, _ := unstructured.NestedString(u.Object, path...)
	return s
}

// imageVersion is the tag of an image reference ("…/node:v3.29.2" → "v3.29.2"),
// "" if it has none.
func imageVersion(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexAny(image, "/:"); i >= 0 && image[i] == ':' {
		return image[i+1:]
	}
	return ""
}
