package calico

import (
	"cmp"
	"context"
	"path"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/fleetd/fleetd/pkg/cluster"
)

func readCalicoNode(ctx context.Context, c *cluster.Client, f *Facts) error {
	// The operator's is in calico-system, that of a manifest in kube-system.
	for _, ns := range []string{calicoNamespace, metav1.NamespaceSystem} {
		ds, err := c.Kube.AppsV1().DaemonSets(ns).Get(ctx, "calico-node", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return c.Explain(err, "read DaemonSet %s/calico-node", ns)
		}
		f.CalicoNode = daemonSetFacts(ds)
		return nil
	}
	return nil
}

func readCompanions(ctx context.Context, c *cluster.Client, f *Facts) error {
	for _, name := range companionsOfNode {
		d, err := c.Kube.AppsV1().Deployments(calicoNamespace).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue // small clusters have no typha
		}
		if err != nil {
			return c.Explain(err, "read Deployment %s/%s", calicoNamespace, name)
		}
		out := Deployment{
			Namespace: d.Namespace, Name: d.Name, Generation: d.Generation, Observed: d.Status.ObservedGeneration, Replicas: 1,
			Total: d.Status.Replicas, Updated: d.Status.UpdatedReplicas, Available: d.Status.AvailableReplicas,
			Env: environment(d.Spec.Template.Spec),
		}
		if d.Spec.Replicas != nil {
			out.Replicas = *d.Spec.Replicas
		}
		f.Companions = append(f.Companions, out)
	}
	return nil
}

func daemonSetFacts(ds *appsv1.DaemonSet) DaemonSet {
	out := DaemonSet{
		Exists: true, Namespace: ds.Namespace, Name: ds.Name,
		Generation: ds.Generation, Observed: ds.Status.ObservedGeneration,
		Desired: ds.Status.DesiredNumberScheduled, Current: ds.Status.CurrentNumberScheduled,
		Updated: ds.Status.UpdatedNumberScheduled, Ready: ds.Status.NumberReady, Available: ds.Status.NumberAvailable,
		NodeSelector: ds.Spec.Template.Spec.NodeSelector,
		Env:          environment(ds.Spec.Template.Spec),
	}
	if sel, err := metav1.LabelSelectorAsSelector(ds.Spec.Selector); err == nil && !sel.Empty() {
		out.Selector = sel.String()
	}
	if ru := ds.Spec.UpdateStrategy.RollingUpdate; ru != nil && ru.MaxUnavailable != nil {
		out.MaxUnavailable = ru.MaxUnavailable.String()
	}
	if c := mainContainer(ds.Spec.Template.Spec, ds.Name); c != nil {
		out.Image = c.Image
	}
	return out
}

// mainContainer is the one that carries the workload's name, else the first.
func mainContainer(p corev1.PodSpec, name string) *corev1.Container {
	for i := range p.Containers {
		if p.Containers[i].Name == name {
			return &p.Containers[i]
		}
	}
	if len(p.Containers) == 0 {
		return nil
	}
	return &p.Containers[0]
}

// environment reads the variables that matter, from whichever container sets them.
func environment(p corev1.PodSpec) map[string]string {
	out := map[string]string{}
	for _, c := range p.Containers {
		for _, e := range c.Env {
			switch e.Name {
			case envHost, envPort, envBPFEnabled, envAPIGroup:
				out[e.Name] = e.Value
			}
		}
	}
	return out
}

func readKubeProxies(ctx context.Context, c *cluster.Client, f *Facts) error {
	sets, err := c.Kube.AppsV1().DaemonSets(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{})
	if err != nil {
		return c.Explain(err, "list daemonsets in %s", metav1.NamespaceSystem)
	}
	stays, err := nonCalicoNodes(ctx, c)
	if err != nil {
		return err
	}
	for i := range sets.Items {
		ds := &sets.Items[i]
		if !isKubeProxy(ds) {
			continue
		}
		k := KubeProxy{DaemonSet: daemonSetFacts(ds), ManagedBy: managedBy(ds)}
		if k.Mode, err = proxyMode(ctx, c, ds); err != nil {
			return err
		}
		if k.Pods, err = countPods(ctx, c, k.Selector, stays); err != nil {
			return err
		}
		f.KubeProxies = append(f.KubeProxies, k)
	}
	slices.SortFunc(f.KubeProxies, func(a, b KubeProxy) int { return cmp.Compare(a.Name, b.Name) })
	if len(f.KubeProxies) > 0 {
		return nil
	}
	// Static pods (RKE2, some installers) show as mirror pods.
	pods, err := c.Kube.CoreV1().Pods(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{LabelSelector: "component=kube-proxy"})
	if err != nil {
		return c.Explain(err, "list the pods of kube-proxy")
	}
	for _, p := range pods.Items {
		f.StaticKubeProxies = append(f.StaticKubeProxies, p.Name)
	}
	slices.Sort(f.StaticKubeProxies)
	return nil
}

// countPods counts the pods in kube-system on other nodes than these.
func countPods(ctx context.Context, c *cluster.Client, selector string, stays map[string]bool) (n int, err error) {
	if selector == "" {
		return 0, nil // it would select every pod there is
	}
	pods, err := c.Kube.CoreV1().Pods(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return 0, c.Explain(err, "list the pods of kube-proxy")
	}
	for _, p := range pods.Items {
		if !stays[p.Spec.NodeName] {
			n++
		}
	}
	return n, nil
}

// nonCalicoNodes are the nodes whose label keeps kube-proxy on them.
func nonCalicoNodes(ctx context.Context, c *cluster.Client) (map[string]bool, error) {
	l, err := c.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: cluster.NonCalicoLabel + "=true"})
	if err != nil {
		return nil, c.Explain(err, "list nodes")
	}
	out := map[string]bool{}
	for _, n := range l.Items {
		out[n.Name] = true
	}
	return out, nil
}

// isKubeProxy knows kube-proxy's DaemonSets by name; those for Windows do not
// touch Linux nodes.
func isKubeProxy(ds *appsv1.DaemonSet) bool {
	if ds.Spec.Template.Spec.NodeSelector["kubernetes.io/os"] == "windows" {
		return false
	}
	return ds.Name == "kube-proxy" || strings.HasPrefix(ds.Name, "kube-proxy-") || ds.Labels["k8s-app"] == "kube-proxy"
}

// managedBy names who would put a changed DaemonSet back, "" if nobody is known.
func managedBy(ds *appsv1.DaemonSet) string {
	if len(ds.OwnerReferences) > 0 {
		o := ds.OwnerReferences[0]
		return o.Kind + " " + o.Name
	}
	for _, m := range []struct{ key, value, who string }{
		{"addonmanager.kubernetes.io/mode", "Reconcile", "the addon manager"},
		{"eks.amazonaws.com/component", "", "an EKS add-on"},
		{"argocd.argoproj.io/tracking-id", "", "Argo CD"},
		{"argocd.argoproj.io/instance", "", "Argo CD"},
		{"kustomize.toolkit.fluxcd.io/name", "", "Flux"},
		{"helm.toolkit.fluxcd.io/name", "", "Flux"},
		{"app.kubernetes.io/managed-by", "Helm", "Helm"},
	} {
		for _, set := range []map[string]string{ds.Labels, ds.Annotations} {
			if v, ok := set[m.key]; ok && (m.value == "" || v == m.value) {
				return m.who
			}
		}
	}
	return ""
}

// proxyMode finds kube-proxy's mode where kube-proxy itself would: in the file
// that --config names, else in --proxy-mode. "" = it could not be told.
func proxyMode(ctx context.Context, c *cluster.Client, ds *appsv1.DaemonSet) (string, error) {
	pod := ds.Spec.Template.Spec
	ct := mainContainer(pod, "kube-proxy")
	if ct == nil {
		return "", nil
	}
	args := slices.Concat(ct.Command, ct.Args)
	file := flagValue(args, "--config")
	if file == "" {
		return cmp.Or(flagValue(args, "--proxy-mode"), "iptables"), nil
	}
	name, key := configMapOf(pod, ct, file)
	if name == "" {
		return "", nil // a file on the node
	}
	cm, err := c.Kube.CoreV1().ConfigMaps(ds.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", c.Explain(err, "read ConfigMap %s/%s, kube-proxy's configuration", ds.Namespace, name)
	}
	return proxyModeOf(cm.Data[key]), nil
}

// proxyModeOf reads a KubeProxyConfiguration. An empty mode is kube-proxy's
// default on Linux.
func proxyModeOf(configuration string) string {
	var conf struct {
		Mode *string `json:"mode"`
	}
	if configuration == "" || yaml.Unmarshal([]byte(configuration), &conf) != nil {
		return ""
	}
	if conf.Mode == nil {
		return "iptables"
	}
	return cmp.Or(strings.ToLower(*conf.Mode), "iptables")
}

// configMapOf finds the ConfigMap and its key that a container sees as file.
func configMapOf(pod corev1.PodSpec, ct *corev1.Container, file string) (name, key string) {
	for _, m := range ct.VolumeMounts {
		rest, ok := strings.CutPrefix(file, strings.TrimSuffix(m.MountPath, "/")+"/")
		if !ok && m.SubPath != "" && m.MountPath == file {
			rest, ok = m.SubPath, true
		}
		if !ok {
			continue
		}
		for _, v := range pod.Volumes {
			if v.Name != m.Name || v.ConfigMap == nil {
				continue
			}
			for _, item := range v.ConfigMap.Items {
				if item.Path == rest {
					return v.ConfigMap.Name, item.Key
				}
			}
			return v.ConfigMap.Name, path.Base(rest)
		}
	}
	return "", ""
}

// flagValue finds --name=value or --name value.
func flagValue(args []string, name string) string {
	for i, a := range args {
		if v, ok := strings.CutPrefix(a, name+"="); ok {
			return v
		}
		if a == name && i+1 < len(args) {
			return args[i+1]
		}
	}
	return ""
}
