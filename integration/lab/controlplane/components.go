package controlplane

import (
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Ports inside the namespace. They are fixed: every lab has a namespace of its own.
const (
	apiPort       = 16443
	etcdPort      = 12379
	etcdPeerPort  = 12380
	managerPort   = 10257
	schedulerPort = 10259
	kubeletPort   = 10250 // kwok answers there for every node's kubelet
)

// APIAddress is where the API server listens, seen from inside the namespace.
const APIAddress = "127.0.0.1:16443"

// GuestAPIAddress is where a virtual machine on QEMU's user network finds the
// API server, when its lab forwards that address to APIAddress. It is the
// cluster's controlPlaneEndpoint and in the server's certificate.
const GuestAPIAddress = "10.0.2.101:6443"

const (
	guestAPIHost = "10.0.2.101"
	guestAPIPort = "6443"

	serviceCIDR   = "10.96.0.0/16"
	serviceFirst  = "10.96.0.1" // of the Service "kubernetes"
	podCIDR       = "10.244.0.0/16"
	advertisedAPI = "10.0.0.3"
)

// Users of the lab's API server, each with a kubeconfig in the lab's folder.
// LabUser is the lab itself; AdminUser is whom it hands out. They differ so
// that the audit log tells what a program under test wrote from what the lab did.
const (
	LabUser   = "fleetd-lab"
	AdminUser = "admin"
)

// A component is one program and how it is started.
type component struct {
	name string
	path string
	args []string
	env  []string
	// socket is handed over as systemd does it (sd_listen_fds(3)); nil = none.
	socket *os.File
}

// writeCredentials makes every certificate and kubeconfig in dir.
func writeCredentials(dir string, cfg Config) error {
	pki := filepath.Join(dir, "pki")
	ca, err := newAuthority("fleetd-lab-ca")
	if err != nil {
		return err
	}
	frontProxy, err := newAuthority("fleetd-lab-front-proxy-ca")
	if err != nil {
		return err
	}
	serviceAccounts, err := newAuthority("fleetd-lab-service-accounts")
	if err != nil {
		return err
	}
	public, err := publicPEM(serviceAccounts.key)
	if err != nil {
		return err
	}
	for _, step := range []error{
		ca.save(pki, "ca"),
		frontProxy.save(pki, "front-proxy-ca"),
		serviceAccounts.save(pki, "sa"),
		os.WriteFile(filepath.Join(pki, "sa.pub"), public, 0o644),
	} {
		if step != nil {
			return step
		}
	}

	names := []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
		"127.0.0.1", serviceFirst, cfg.AdvertiseAddress, guestAPIHost}
	for _, n := range cfg.Nodes {
		if n.ControlPlane {
			names = append(names, n.Name, n.InternalIP)
		}
	}
	server, err := ca.issue("kube-apiserver", "", names)
	if err != nil {
		return err
	}
	proxy, err := frontProxy.issue("front-proxy-client", "", nil)
	if err != nil {
		return err
	}
	standin, err := ca.issue(calicoNodeUser, "", nil)
	if err != nil {
		return err
	}
	for _, step := range []error{server.save(pki, "apiserver"), proxy.save(pki, "front-proxy-client"), standin.save(pki, "calico-node")} {
		if step != nil {
			return step
		}
	}

	for _, u := range []struct{ file, user, group string }{
		{"admin", AdminUser, "system:masters"},
		{"lab", LabUser, "system:masters"},
		{"kwok", "kwok", "system:masters"},
		{"operator", "tigera-operator", "system:masters"},
		{"controller-manager", "system:kube-controller-manager", ""},
		{"scheduler", "system:kube-scheduler", ""},
	} {
		pair, err := ca.issue(u.user, u.group, nil)
		if err != nil {
			return err
		}
		if err := writeKubeconfig(kubeconfigPath(dir, u.file), "https://"+APIAddress, u.user, ca.certPEM, pair); err != nil {
			return err
		}
	}
	return nil
}

func kubeconfigPath(dir, name string) string { return filepath.Join(dir, name+".kubeconfig") }

func writeKubeconfig(path, server, user string, ca []byte, pair keyPair) error {
	b, err := kubeconfig(server, user, ca, pair)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

func kubeconfig(server, user string, ca []byte, pair keyPair) ([]byte, error) {
	config := clientcmdapi.NewConfig()
	config.Clusters["fleetd-lab"] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: ca}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: pair.cert, ClientKeyData: pair.key}
	config.Contexts["fleetd-lab"] = &clientcmdapi.Context{Cluster: "fleetd-lab", AuthInfo: user}
	config.CurrentContext = "fleetd-lab"
	return clientcmd.Write(*config)
}

func etcd(bin, dir string) component {
	client, peer := fmt.Sprintf("http://127.0.0.1:%d", etcdPort), fmt.Sprintf("http://127.0.0.1:%d", etcdPeerPort)
	return component{name: "etcd", path: filepath.Join(bin, "etcd"), args: []string{
		"--name=lab", "--data-dir=" + filepath.Join(dir, "etcd"),
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=lab=" + peer,
		// The data is thrown away with the lab; syncing it only costs time.
		"--unsafe-no-fsync", "--log-level=warn",
	}}
}

func apiServer(bin, dir, advertise string) component {
	pki := func(name string) string { return filepath.Join(dir, "pki", name) }
	return component{name: "kube-apiserver", path: filepath.Join(bin, "kube-apiserver"), args: []string{
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", etcdPort),
		// All addresses of a namespace that has only loopback: the endpoint of
		// the Service "kubernetes" and the guests' address answer there too.
		"--bind-address=0.0.0.0", fmt.Sprintf("--secure-port=%d", apiPort), "--advertise-address=" + advertise,
		"--tls-cert-file=" + pki("apiserver.crt"), "--tls-private-key-file=" + pki("apiserver.key"),
		"--client-ca-file=" + pki("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + pki("sa.pub"), "--service-account-signing-key-file=" + pki("sa.key"),
		"--service-cluster-ip-range=" + serviceCIDR,
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
		"--requestheader-client-ca-file=" + pki("front-proxy-ca.crt"), "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group", "--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file=" + pki("front-proxy-client.crt"), "--proxy-client-key-file=" + pki("front-proxy-client.key"),
		// For exec and logs. kwok answers anybody; a real kubelet asks whether
		// this user may (cluster.yaml lets it).
		"--kubelet-client-certificate=" + pki("apiserver.crt"), "--kubelet-client-key=" + pki("apiserver.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--audit-policy-file=" + filepath.Join(dir, "audit-policy.yaml"), "--audit-log-path=" + auditLogPath(dir),
		"--enable-priority-and-fairness=false", "--profiling=false",
	}}
}

func controllerManager(bin, dir string) component {
	kubeconfig := kubeconfigPath(dir, "controller-manager")
	return component{name: "kube-controller-manager", path: filepath.Join(bin, "kube-controller-manager"), args: []string{
		"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", managerPort), "--leader-elect=false",
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=" + filepath.Join(dir, "pki", "sa.key"), "--root-ca-file=" + filepath.Join(dir, "pki", "ca.crt"),
		"--cluster-signing-cert-file=" + filepath.Join(dir, "pki", "ca.crt"), "--cluster-signing-key-file=" + filepath.Join(dir, "pki", "ca.key"),
		"--controllers=*,-nodeipam", // Calico hands out pod addresses
		"--kube-api-qps=200", "--kube-api-burst=400", "--concurrent-daemonset-syncs=5",
	}}
}

func scheduler(bin, dir string) component {
	kubeconfig := kubeconfigPath(dir, "scheduler")
	return component{name: "kube-scheduler", path: filepath.Join(bin, "kube-scheduler"), args: []string{
		"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", schedulerPort), "--leader-elect=false",
		"--kube-api-qps=400", "--kube-api-burst=800",
	}}
}

func kwok(bin, dir string) component {
	return component{name: "kwok", path: filepath.Join(bin, "kwok"), args: []string{
		"--kubeconfig=" + kubeconfigPath(dir, "kwok"), "--config=" + filepath.Join(dir, "kwok.yaml"),
		// Nodes without the annotation are real ones: kwok leaves them alone.
		"--manage-nodes-with-annotation-selector=" + kwokAnnotation + "=fake",
		"--node-ip=", "--node-port=0", "--cidr=" + podCIDR, "--node-lease-duration-seconds=40",
		fmt.Sprintf("--server-address=0.0.0.0:%d", kubeletPort),
	},
		// exec into a pod looks a program up here, and finds stand-ins only.
		env: []string{"PATH=" + filepath.Join(dir, "standin"), "FLEETD_LAB_DIR=" + dir},
	}
}

func operator(bin, dir string) component {
	return component{name: "tigera-operator", path: filepath.Join(bin, "tigera-operator"),
		args: []string{"--enable-leader-election=false"},
		env: []string{
			"KUBECONFIG=" + kubeconfigPath(dir, "operator"),
			"OPERATOR_NAMESPACE=tigera-operator", "OPERATOR_SERVICEACCOUNT=tigera-operator",
		},
	}
}
