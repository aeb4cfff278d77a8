package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// health is how the pods that a drain leaves on a node were before. Pods come and
// go; they are known by what they are for: a DaemonSet's by its namespace and name,
// a static one by its own.
type health struct {
	// Ready are DaemonSets whose pod was ready, with a digest of its container IDs.
	// "" = the container runtime tells none.
	Ready map[string]string `json:"ready,omitempty"`
	// Unready are pods that were not. They are not waited for afterwards.
	Unready []string `json:"unready,omitempty"`
	// unknown is set where there is no such record.
	unknown bool
}

// Which DaemonSets a node is waited for.
const (
	allDaemonSets = "all"
	calicoOnly    = "calico"
	noDaemonSets  = "none"
)

// purpose is what a pod that stays on its node is for, "" if it does not stay.
func purpose(p *corev1.Pod) string {
	switch owner := metav1.GetControllerOf(p); {
	case isStatic(p):
		return p.Namespace + "/" + p.Name
	case owner != nil && isDaemonSet(owner):
		return p.Namespace + "/" + owner.Name
	}
	return ""
}

// isCalico tells the DaemonSets that give a node its network: calico-node, and
// canal, which is Calico's policy on flannel.
func isCalico(purpose string) bool {
	return strings.HasSuffix(purpose, "/calico-node") || strings.HasSuffix(purpose, "/canal")
}

// healthOf looks at the pods of a node.
func healthOf(pods []*corev1.Pod) string {
	h := health{Ready: map[string]string{}}
	for _, p := range pods {
		name := purpose(p)
		switch {
		case name == "":
		case NotReady(p) != "" || crashes(p):
			h.Unready = append(h.Unready, name)
		case !isStatic(p):
			h.Ready[name] = containerDigest(p)
		}
	}
	return string(Pack(h))
}

// readHealth reads what healthOf wrote. Where nothing is known of before, nothing
// is excused.
func readHealth(n *corev1.Node) health {
	var h health
	h.unknown = json.Unmarshal([]byte(n.Annotations[BeforeAnnotation]), &h) != nil
	return h
}

// counts reports whether a node is waited for because of a pod.
func (h health) counts(which, purpose string) bool {
	return purpose != "" && which != noDaemonSets && (which != calicoOnly || isCalico(purpose)) && !slices.Contains(h.Unready, purpose)
}

// ill says which pod of a node is not as well as before, and why; "" = none is.
// calico-node comes first: without it most of the others cannot be.
func (h health) ill(which string, n *corev1.Node, pods []*corev1.Pod, daemonSets []*appsv1.DaemonSet) string {
	there := map[string]*corev1.Pod{}
	names := slices.Collect(maps.Keys(h.Ready))
	for _, p := range pods {
		name := purpose(p)
		// While its pod is replaced, a DaemonSet may have two: the later one counts.
		if old := there[name]; old == nil || old.CreationTimestamp.Before(&p.CreationTimestamp) {
			there[name] = p
		}
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if isCalico(a) != isCalico(b) {
			return map[bool]int{true: -1, false: 1}[isCalico(a)]
		}
		return strings.Compare(a, b)
	})
	for _, name := range slices.Compact(names) {
		if !h.counts(which, name) {
			continue
		}
		p := there[name]
		if p == nil && wanted(name, n, daemonSets) {
			return fmt.Sprintf("DaemonSet %s has no pod on it", name)
		}
		if p != nil {
			if why := h.illness(name, p); why != "" {
				return fmt.Sprintf("pod %s/%s %s", p.Namespace, p.Name, why)
			}
		}
	}
	return ""
}

// illness says why a pod is not well.
func (h health) illness(name string, p *corev1.Pod) string {
	before, was := h.Ready[name]
	switch why := NotReady(p); {
	case crashes(p):
		return "is in CrashLoopBackOff, and was not before"
	case !was && !h.unknown || isStatic(p):
		return "" // it has come since
	case why == notReady:
		return "is not ready"
	case why != "":
		return "is not ready: " + why
	case before != "" && containerDigest(p) == before:
		return "still shows the containers of the boot before"
	}
	return ""
}

// wanted reports whether a DaemonSet is there and may have a pod on the node, as
// far as its node selector tells.
func wanted(name string, n *corev1.Node, daemonSets []*appsv1.DaemonSet) bool {
	for _, d := range daemonSets {
		if d.Namespace+"/"+d.Name == name {
			return labels.SelectorFromSet(d.Spec.Template.Spec.NodeSelector).Matches(labels.Set(n.Labels))
		}
	}
	return false
}

// crashes reports whether a container of the pod is in CrashLoopBackOff.
func crashes(p *corev1.Pod) bool {
	return slices.ContainsFunc(slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses), func(c corev1.ContainerStatus) bool {
		return c.State.Waiting != nil && c.State.Waiting.Reason == "CrashLoopBackOff"
	})
}

// containerDigest changes when a container of the pod is started anew.
func containerDigest(p *corev1.Pod) string {
	ids := ""
	for _, c := range p.Status.ContainerStatuses {
		ids += c.ContainerID
	}
	if ids == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(ids))
	return hex.EncodeToString(sum[:6])
}

// pulse changes when a pod that the node is waited for is started anew, or restarts.
func (h health) pulse(which string, pods []*corev1.Pod) string {
	seen := map[string]string{}
	for _, p := range pods {
		if !h.counts(which, purpose(p)) {
			continue
		}
		for _, c := range p.Status.ContainerStatuses {
			seen[p.Namespace+"/"+p.Name+"/"+c.Name] = fmt.Sprint(c.RestartCount, c.ContainerID)
		}
	}
	var text strings.Builder
	for _, k := range slices.Sorted(maps.Keys(seen)) {
		fmt.Fprintln(&text, k, seen[k])
	}
	sum := sha256.Sum256([]byte(text.String()))
	return hex.EncodeToString(sum[:6])
}
