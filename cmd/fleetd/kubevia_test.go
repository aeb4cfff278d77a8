package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

// TestKubeVia: the API server is asked through the host, and only through it.
func TestKubeVia(t *testing.T) {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"gitVersion": "v1.33.0"}`)
	}))
	t.Cleanup(api.Close)
	kubeconfig := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: %q}}]\ncontexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n", api.URL)
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	via := sshtest.New(t).Target("bastion")
	version := func() (string, error) {
		c := newPlan()
		c.SetErr(io.Discard)
		fl, err := wire(c, &fleetFlags{}, reach{Targets: map[string]sshexec.Target{}, Kubeconfig: kubeconfig, KubeVia: &via})
		if err != nil {
			t.Fatal(err)
		}
		defer fl.close()
		v, err := fl.client.Kube.Discovery().ServerVersion()
		if err != nil {
			return "", err
		}
		return v.GitVersion, nil
	}
	if v, err := version(); err != nil || v != "v1.33.0" {
		t.Errorf("%q, %v", v, err)
	}
	via.Port = 1
	if v, err := version(); err == nil || !strings.Contains(err.Error(), "cannot connect to bastion") && !strings.Contains(err.Error(), "on bastion") {
		t.Errorf("past the bastion: %q, %v", v, err)
	}
}

// TestUnlockVia: the cluster is taken from a run of another bastion through a host of
// the inventory, where the API server cannot be reached otherwise.
func TestUnlockVia(t *testing.T) {
	holder := "alice@bastion1"
	lease := &coordinationv1.Lease{
		TypeMeta:   metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"},
		ObjectMeta: metav1.ObjectMeta{Name: "fleetd", Namespace: "kube-system", Annotations: map[string]string{"fleetd.io/run": "r1"}},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &holder},
	}
	var mu sync.Mutex
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Method == http.MethodPut {
			lease = &coordinationv1.Lease{}
			if err := json.NewDecoder(r.Body).Decode(lease); err != nil {
				t.Error(err)
			}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(lease)
	}))
	t.Cleanup(api.Close)
	bastion := sshtest.New(t)
	via := bastion.Target("bastion")
	dir := t.TempDir()
	write := func(name, text string) string {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	kubeconfig := write("config", fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: %q}}]\ncontexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n", api.URL))
	hosts := write("hosts", fmt.Sprintf("bastion ansible_host=127.0.0.1 ansible_port=%d ansible_user=%s ansible_ssh_private_key_file=%s ansible_ssh_common_args='-o UserKnownHostsFile=%s'\n",
		via.Port, via.User, via.IdentityFiles[0], via.KnownHosts[0]))
	unlock := func(args ...string) (string, error) {
		c := newUnlock()
		var out strings.Builder
		c.SetOut(&out)
		c.SetErr(io.Discard)
		c.SilenceUsage, c.SilenceErrors = true, true
		c.SetArgs(append([]string{"--state", filepath.Join(dir, "state"), "--kubeconfig", kubeconfig, "-i", hosts}, args...))
		err := c.ExecuteContext(t.Context())
		return out.String(), err
	}
	if _, err := unlock("r1", "--kube-via", "web1"); err == nil || !strings.Contains(err.Error(), "the inventory has no such host") {
		t.Error(err)
	}
	if _, err := unlock("r2", "--kube-via", "bastion"); err == nil || !strings.Contains(err.Error(), "it is run r1 of alice@bastion1 that holds the cluster") {
		t.Error(err)
	}
	if out, err := unlock("r1", "--kube-via", "bastion"); err != nil || out != "Run r1 no longer holds the cluster.\n" {
		t.Errorf("%q, %v", out, err)
	}
	mu.Lock()
	defer mu.Unlock()
	if lease.Spec.HolderIdentity != nil || bastion.Dials() == 0 {
		t.Errorf("held by %v, %d connections to the bastion", lease.Spec.HolderIdentity, bastion.Dials())
	}
}
