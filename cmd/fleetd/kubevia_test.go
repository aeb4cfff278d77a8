package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
