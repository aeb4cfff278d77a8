package controlplane

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// kwokAnnotation marks the nodes that kwok plays. Taking it off a Node makes
// that node go stale, as if its kubelet had died.
const kwokAnnotation = "kwok.x-k8s.io/node"

// NodeCredentials let the stand-in for a kubelet in a guest report its kernel.
// All but Server are PEM.
type NodeCredentials struct {
	Server        string // https://GuestAPIAddress
	CA, Cert, Key []byte
}

// NodeCredentials makes a client certificate that may patch the status of the
// one Node and do nothing else, not even read it. (A real kubelet's certificate
// of group system:nodes may do more; a guest that only says which kernel it
// runs has no need of it.)
func (l *Lab) NodeCredentials(node string) (NodeCredentials, error) {
	if !slices.ContainsFunc(l.state.Nodes, func(n NodeSpec) bool { return n.Name == node }) {
		return NodeCredentials{}, fmt.Errorf("cannot make credentials for node %s: the lab has no such node", node)
	}
	ca, err := loadAuthority(filepath.Join(l.dir, "pki"), "ca")
	if err != nil {
		return NodeCredentials{}, fmt.Errorf("cannot make credentials for node %s: %w", node, err)
	}
	pair, err := ca.issue(nodeUser(node), "", nil)
	if err != nil {
		return NodeCredentials{}, fmt.Errorf("cannot make credentials for node %s: %w", node, err)
	}
	return NodeCredentials{Server: "https://" + GuestAPIAddress, CA: ca.certPEM, Cert: pair.cert, Key: pair.key}, nil
}

func nodeUser(node string) string { return "fleetd-lab:node:" + node }

// KubeletCredentials are what a real kubelet has after `kubeadm join`: a client
// certificate of group system:nodes, which serves exec and logs as well.
func (l *Lab) KubeletCredentials(node string) (NodeCredentials, error) {
	i := slices.IndexFunc(l.state.Nodes, func(n NodeSpec) bool { return n.Name == node && n.Real })
	if i < 0 {
		return NodeCredentials{}, fmt.Errorf("cannot make credentials for the kubelet of %s: the lab has no such real node", node)
	}
	ca, err := loadAuthority(filepath.Join(l.dir, "pki"), "ca")
	if err != nil {
		return NodeCredentials{}, fmt.Errorf("cannot make credentials for the kubelet of %s: %w", node, err)
	}
	pair, err := ca.issue("system:node:"+node, "system:nodes", []string{node, l.state.Nodes[i].InternalIP})
	if err != nil {
		return NodeCredentials{}, fmt.Errorf("cannot make credentials for the kubelet of %s: %w", node, err)
	}
	return NodeCredentials{Server: "https://" + GuestAPIAddress, CA: ca.certPEM, Cert: pair.cert, Key: pair.key}, nil
}

// KubeletConfig is what the kubelet of a real node reads these from.
func (c NodeCredentials) KubeletConfig(node string) ([]byte, error) {
	b, err := kubeconfig(c.Server, "system:node:"+node, c.CA, keyPair{cert: c.Cert, key: c.Key})
	if err != nil {
		return nil, fmt.Errorf("cannot make the kubeconfig of %s: %w", node, err)
	}
	return b, nil
}

// Images are the container images that the lab's pods name, each with the program
// that it starts on a real node: but for kube-proxy, one of the lab's stand-ins.
// Calico's are those of CalicoVersion's operator, without what an Installation for
// real nodes leaves out.
func Images() map[string][]string {
	return map[string][]string{
		"registry.k8s.io/kube-proxy:" + kubernetesVersion:    {"/usr/local/bin/kube-proxy"},
		"registry.k8s.io/pause:3.10":                         {"/usr/bin/pod"},
		"registry.k8s.io/coredns/coredns:v1.12.1":            {"/usr/bin/pod"},
		"registry.example/web:1":                             {"/usr/bin/pod", "web"},
		"quay.io/tigera/operator:" + operatorVersion:         {"/usr/bin/operator"},
		"registry.example/worker:1":                          {"/usr/bin/pod"},
		"docker.io/calico/node:" + CalicoVersion:             {"/usr/bin/calico-node"},
		"docker.io/calico/cni:" + CalicoVersion:              {"/opt/cni/bin/install"},
		"docker.io/calico/typha:" + CalicoVersion:            {"/usr/bin/pod", "health", "127.0.0.1:9098"},
		"docker.io/calico/kube-controllers:" + CalicoVersion: {"/usr/bin/pod"},
	}
}

// PodCIDR is the range that the pods of the i-th node, from 0, take addresses of.
// Beyond 256 nodes two share one; kwok then takes their pods' addresses from one
// pool, so no two pods get the same.
func PodCIDR(i int) string { return fmt.Sprintf("10.244.%d.0/24", i%256) }

// createNodes registers the nodes as their kubelets would, each with the role
// that NodeCredentials binds to.
func (l *Lab) createNodes(ctx context.Context, c *connection, specs []NodeSpec) error {
	for i, spec := range specs {
		if spec.Real {
			continue
		}
		if _, err := c.typed.CoreV1().Nodes().Create(ctx, nodeObject(i, spec), metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("cannot create node %s: %w", spec.Name, err)
		}
		if err := grant(ctx, c, nodeUser(spec.Name), rbacv1.PolicyRule{
			Verbs: []string{"patch"}, APIGroups: []string{""}, Resources: []string{"nodes/status"}, ResourceNames: []string{spec.Name},
		}, rbacv1.PolicyRule{
			Verbs: []string{"get"}, APIGroups: []string{"crd.projectcalico.org"}, Resources: []string{"felixconfigurations"},
		}); err != nil {
			return fmt.Errorf("cannot create node %s: %w", spec.Name, err)
		}
	}
	return grant(ctx, c, calicoNodeUser,
		rbacv1.PolicyRule{Verbs: []string{"list"}, APIGroups: []string{""}, Resources: []string{"nodes"}},
		rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{"crd.projectcalico.org"}, Resources: []string{"felixconfigurations"}})
}

// grant gives one user a ClusterRole of its own, named after it.
func grant(ctx context.Context, c *connection, user string, rules ...rbacv1.PolicyRule) error {
	meta := metav1.ObjectMeta{Name: user}
	_, err := c.typed.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	_, err = c.typed.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: meta,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: user},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	}, metav1.CreateOptions{})
	return err
}

func nodeObject(i int, spec NodeSpec) *corev1.Node {
	role := "worker"
	var taints []corev1.Taint
	if spec.ControlPlane {
		role = "control-plane"
	}
	if spec.ControlPlane && !spec.Untainted {
		taints = []corev1.Taint{{Key: "node-role.kubernetes.io/control-plane", Effect: corev1.TaintEffectNoSchedule}}
	}
	labels := map[string]string{
		corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64", corev1.LabelHostname: spec.Name,
		"node-role.kubernetes.io/" + role: "",
	}
	maps.Copy(labels, spec.Labels)
	resources := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("16"), corev1.ResourceMemory: resource.MustParse("64Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: spec.Name, Labels: labels, Annotations: map[string]string{kwokAnnotation: "fake"}},
		Spec:       corev1.NodeSpec{PodCIDR: PodCIDR(i), Taints: taints},
		Status: corev1.NodeStatus{
			Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeInternalIP, Address: spec.InternalIP}, {Type: corev1.NodeHostName, Address: spec.Name},
			},
			Allocatable: resources, Capacity: resources,
			// exec and logs: the API server asks this port, where kwok answers.
			DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: kubeletPort}},
			NodeInfo: corev1.NodeSystemInfo{
				Architecture: "amd64", OperatingSystem: "linux", OSImage: "CentOS Linux 7 (Core)",
				KernelVersion: spec.KernelVersion, KubeletVersion: kubernetesVersion,
				ContainerRuntimeVersion: "containerd://1.7.27",
				BootID:                  newUUID(), MachineID: newUUID(), SystemUUID: newUUID(),
			},
		},
	}
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// createMirrorPods shows on every control plane node the static pods that
// kubeadm makes. They are the API's view only: one etcd and one API server run,
// whatever the number of such nodes.
func createMirrorPods(ctx context.Context, c *connection, specs []NodeSpec) error {
	for _, spec := range specs {
		if !spec.ControlPlane {
			continue
		}
		node, err := c.typed.CoreV1().Nodes().Get(ctx, spec.Name, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("cannot create the mirror pods of %s: %w", spec.Name, err)
		}
		for _, p := range []struct {
			name, image string
			command     []string
		}{
			{"etcd", "registry.k8s.io/etcd:3.6.4-0", []string{"etcd", "--name=" + spec.Name, "--advertise-client-urls=https://" + spec.InternalIP + ":2379"}},
			{"kube-apiserver", "registry.k8s.io/kube-apiserver:" + kubernetesVersion, []string{"kube-apiserver", "--advertise-address=" + spec.InternalIP, "--secure-port=" + guestAPIPort}},
			{"kube-controller-manager", "registry.k8s.io/kube-controller-manager:" + kubernetesVersion, []string{"kube-controller-manager", "--leader-elect=true"}},
			{"kube-scheduler", "registry.k8s.io/kube-scheduler:" + kubernetesVersion, []string{"kube-scheduler", "--leader-elect=true"}},
		} {
			pod := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{
					Name: p.name + "-" + spec.Name, Namespace: metav1.NamespaceSystem,
					Labels: map[string]string{"component": p.name, "tier": "control-plane"},
					Annotations: map[string]string{
						corev1.MirrorPodAnnotationKey: newUUID(), "kubernetes.io/config.source": "file",
					},
					OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(node, corev1.SchemeGroupVersion.WithKind("Node"))},
				},
				Spec: corev1.PodSpec{
					NodeName: spec.Name, HostNetwork: true, PriorityClassName: "system-node-critical",
					Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}},
					Containers:  []corev1.Container{{Name: p.name, Image: p.image, Command: p.command}},
				},
			}
			if _, err := c.typed.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
				return fmt.Errorf("cannot create mirror pod %s: %w", pod.Name, err)
			}
		}
	}
	return nil
}

func hasWorker(specs []NodeSpec) bool {
	return slices.ContainsFunc(specs, func(n NodeSpec) bool { return !n.ControlPlane })
}

func (c *connection) nodesReady(want int) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		nodes, err := c.typed.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		ready := 0
		for _, n := range nodes.Items {
			if slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
				return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
			}) {
				ready++
			}
		}
		return ready >= want, nil
	}
}
