package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	// kubeconfigs with auth-provider: oidc; exec plugins need no import.
	_ "k8s.io/client-go/plugin/pkg/client/auth/oidc"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// DefaultTimeout bounds one request to the API server.
const DefaultTimeout = 30 * time.Second

// FieldManager is the name that the API server notes beside the fields that
// fleetd sets.
const FieldManager = "fleetd"

// Options are what Connect may be told besides the kubeconfig.
type Options struct {
	// Context is the kubeconfig's context; empty means its current one.
	Context string
	// Timeout bounds one request; 0 means DefaultTimeout.
	Timeout time.Duration
	// Dial, if set, opens the connections to the API server, as when it can
	// only be reached through a node.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// UserAgent is what the API server's audit log shows; empty means "fleetd".
	UserAgent string
	// Holder is who runs fleetd and where: "alice@bastion1". Nodes that a fleetd
	// on another machine has cordoned are somebody else's.
	Holder string
}

// Client is a connection to one cluster. Its fields may be set by hand, with
// client-go's fakes; then nothing is noted as an operation.
type Client struct {
	Kube    kubernetes.Interface
	Dynamic dynamic.Interface
	// Server is the API server's URL, for messages.
	Server string

	// long is Kube without a bound on a request, for watches; nil means Kube.
	long kubernetes.Interface
	// by signs what is left on the cluster. A run's lease adds the run.
	by     signature
	views  views
	rights reviewed
	alerts struct {
		once sync.Once
		book *alertBook
	}
}

// alertBook is what is known of alerts, for the steps of all hosts.
func (c *Client) alertBook() *alertBook {
	c.alerts.once.Do(func() { c.alerts.book = newAlertBook() })
	return c.alerts.book
}

// cordonOf is how a Node stands towards new pods.
func (c *Client) cordonOf(n *corev1.Node) Cordon {
	by := n.Annotations[CordonedByAnnotation]
	return Cordon{On: n.Spec.Unschedulable, By: by, Elsewhere: c.by.elsewhere(by)}
}

// Connect reads a kubeconfig (a file, or a list of files as in KUBECONFIG) and
// returns a client. It does not talk to the API server yet. The client notes
// every write as a rollout.Operation with the Recorder of the request's context.
func Connect(kubeconfig string, o Options) (*Client, error) {
	if kubeconfig == "" {
		return nil, &Error{Doing: "connect to the cluster", Err: errors.New("no kubeconfig is given"), What: noKubeconfigHint}
	}
	rules := &clientcmd.ClientConfigLoadingRules{Precedence: filepath.SplitList(kubeconfig)}
	if len(rules.Precedence) == 1 {
		// An explicit path is an error when it is missing; a missing file in a
		// list is not.
		rules = &clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig}
	}
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: o.Context})
	cfg, err := loader.ClientConfig()
	if err != nil {
		return nil, &Error{Doing: fmt.Sprintf("read kubeconfig %s", kubeconfig), Err: err,
			What: "check it with: kubectl --kubeconfig " + kubeconfig + " config view"}
	}
	return connect(cfg, o)
}

const (
	kubeconfigHint   = "give --kubeconfig FILE, set the inventory variable kubeconfig for group all, or set KUBECONFIG"
	noKubeconfigHint = kubeconfigHint + "; machines without Kubernetes take playbooks/kernels.yml"
)

// NoCluster is the warning for a playbook that has to do with nodes where no
// cluster is configured.
const NoCluster = "no cluster is configured, so no node is drained, waited for or uncordoned: " + kubeconfigHint + "; of machines that are no nodes the variable kubernetes: false says so"

func connect(cfg *rest.Config, o Options) (*Client, error) {
	cfg.Timeout = DefaultTimeout
	if o.Timeout > 0 {
		cfg.Timeout = o.Timeout
	}
	cfg.UserAgent = "fleetd"
	if o.UserAgent != "" {
		cfg.UserAgent = o.UserAgent
	}
	if o.Dial != nil {
		cfg.Dial = o.Dial
	}
	// client-go's own 5 requests a second would make the drains of a batch wait
	// for each other; the API server has fairness of its own.
	cfg.QPS, cfg.Burst = 100, 200
	// Warnings of the server ("deprecated since …") are not for this screen.
	cfg.WarningHandler = rest.NoWarnings{}
	// Writes are journaled as they go over the wire, so they go as JSON; answers
	// may come in the faster form.
	cfg.ContentType = "application/json"
	cfg.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return &recorder{next: next} })
	kube, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		e := &Error{Doing: "connect to API server " + cfg.Host, Err: err}
		if p := cfg.AuthProvider; p != nil && p.Name != "oidc" {
			e.What = fmt.Sprintf("auth-provider %s has been replaced by an exec plugin: fetch the kubeconfig anew with the provider's tool", p.Name)
		}
		return nil, e
	}
	dyn, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, &Error{Doing: "connect to API server " + cfg.Host, Err: err}
	}
	// The bound on a request is one on a watch, too.
	endless := rest.CopyConfig(cfg)
	endless.Timeout = 0
	long, err := kubernetes.NewForConfig(endless)
	if err != nil {
		return nil, &Error{Doing: "connect to API server " + cfg.Host, Err: err}
	}
	return &Client{Kube: kube, Dynamic: dyn, Server: cfg.Host, long: long, by: signature{holder: o.Holder}}, nil
}
