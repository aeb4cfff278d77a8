package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// serviceAccount is what a pod knows the API server by, credentials what a machine
	// without a kubelet has.
	serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"
	credentials    = "/etc/kubelet-standin"
)

// client asks the API server.
type client struct {
	http   *http.Client
	server string
	// token is the file that holds the bearer token; "" with a client certificate.
	token string
}

// inPod says whether it runs in a pod of a real kubelet.
func inPod() bool {
	_, err := os.Stat(filepath.Join(serviceAccount, "token"))
	return err == nil
}

// connect finds the API server where this process is: in a pod where its environment
// says, as the real one does, which is the Service's address until the operator has
// given it another one; under kwok in the lab's folder; else where the machine's own
// stand-in for a kubelet finds it.
func connect() (*client, error) {
	if inPod() {
		c := &client{
			server: "https://" + net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")),
			token:  filepath.Join(serviceAccount, "token"),
		}
		return c, c.trust(filepath.Join(serviceAccount, "ca.crt"))
	}
	if dir := os.Getenv("FLEETD_LAB_DIR"); dir != "" {
		pki := filepath.Join(dir, "pki")
		c := &client{server: "https://127.0.0.1:16443"}
		return c, c.trust(filepath.Join(pki, "ca.crt"), filepath.Join(pki, "calico-node.crt"), filepath.Join(pki, "calico-node.key"))
	}
	server, err := os.ReadFile(filepath.Join(credentials, "server"))
	if err != nil {
		return nil, errors.New("it runs inside a lab only")
	}
	c := &client{server: strings.TrimSpace(string(server))}
	return c, c.trust(filepath.Join(credentials, "ca"), filepath.Join(credentials, "cert"), filepath.Join(credentials, "key"))
}

// trust sets the authority of the server's certificate and, if given, the client's
// own certificate and key.
func (c *client) trust(authority string, pair ...string) error {
	ca, err := os.ReadFile(authority)
	if err != nil {
		return err
	}
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AppendCertsFromPEM(ca)
	if len(pair) > 0 {
		own, err := tls.LoadX509KeyPair(pair[0], pair[1])
		if err != nil {
			return err
		}
		config.Certificates = []tls.Certificate{own}
	}
	c.http = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: config}}
	return nil
}

func (c *client) get(path string, into any) error {
	req, err := http.NewRequest(http.MethodGet, c.server+path, nil)
	if err != nil {
		return err
	}
	if c.token != "" {
		token, err := os.ReadFile(c.token) // the kubelet writes a new one every hour
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

func (c *client) bpfEnabled() (bool, error) {
	var felix struct {
		Spec struct {
			BPFEnabled bool `json:"bpfEnabled"`
		} `json:"spec"`
	}
	err := c.get("/apis/crd.projectcalico.org/v1/felixconfigurations/default", &felix)
	return felix.Spec.BPFEnabled, err
}
