package cluster

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// signedIn serves a list of nodes to whoever brings this token. It speaks TLS: a
// kubeconfig's user is left out otherwise.
func signedIn(t *testing.T, token string) *httptest.Server {
	t.Helper()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Header.Get("Authorization") != "Bearer "+token {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","message":"Unauthorized","reason":"Unauthorized","code":401}`))
			return
		}
		_, _ = w.Write([]byte(`{"kind":"NodeList","apiVersion":"v1","items":[{"metadata":{"name":"n"}}]}`))
	}))
	t.Cleanup(srv.Close)
	return srv
}

// asUser writes a kubeconfig whose user is this JSON.
func asUser(t *testing.T, server *httptest.Server, user string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
"clusters": [{"name": "c", "cluster": {"server": %q, "certificate-authority-data": %q}}], "users": [{"name": "u", "user": %s}]}`, server.URL, caOf(server), user)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func caOf(s *httptest.Server) string {
	return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

func nodesAs(t *testing.T, kubeconfig string) ([]Node, error) {
	t.Helper()
	c, err := Connect(kubeconfig, Options{})
	if err != nil {
		return nil, err
	}
	return c.Nodes(context.Background())
}

// A kubeconfig of a managed cluster names a program that prints a token.
func TestExecPlugin(t *testing.T) {
	dir := t.TempDir()
	calls := filepath.Join(dir, "calls")
	plugin := filepath.Join(dir, "get-token")
	script := `#!/bin/sh
echo "$1 $KUBERNETES_EXEC_INFO" >>` + calls + `
printf '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"%s"}}' "$TOKEN"
`
	if err := os.WriteFile(plugin, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	user := func(command string) string {
		return fmt.Sprintf(`{"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": %q, "args": ["print"],
"env": [{"name": "TOKEN", "value": "from-a-plugin"}], "interactiveMode": "Never", "installHint": "install the cloud's tool"}}`, command)
	}
	server := signedIn(t, "from-a-plugin")
	file := asUser(t, server, user(plugin))
	c, err := Connect(file, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if n, err := c.Nodes(t.Context()); err != nil || len(n) != 1 {
			t.Fatalf("%v %v", n, err)
		}
	}
	said, err := os.ReadFile(calls)
	if err != nil || strings.Count(string(said), "print {") != 1 || !strings.Contains(string(said), `"interactive":false`) {
		t.Errorf("the plugin was called with %q, %v", said, err)
	}
	_, err = nodesAs(t, asUser(t, server, user("no-such-credential-plugin")))
	if p := rollout.AsProblem(err); err == nil || !strings.Contains(p.Message, "install the cloud's tool") || strings.Contains(p.Message, "does not answer") || !strings.Contains(p.Hint, "kubectl auth whoami") {
		t.Errorf("%+v", p)
	}
}

// oidcToken is an unsigned ID token; client-go reads only when it ends.
func oidcToken(t *testing.T, name string, ends time.Time) string {
	t.Helper()
	claims, err := json.Marshal(map[string]any{"sub": name, "exp": ends.Unix()})
	if err != nil {
		t.Fatal(err)
	}
	e := base64.RawURLEncoding
	return e.EncodeToString([]byte(`{"alg":"none"}`)) + "." + e.EncodeToString(claims) + "." + e.EncodeToString([]byte("x"))
}

// A kubeconfig of an identity provider has a token, and one to fetch the next with,
// which is kept in the file.
func TestOIDC(t *testing.T) {
	next := oidcToken(t, "next", time.Now().Add(time.Hour))
	var mu sync.Mutex
	var refreshed []string
	idp := httptest.NewUnstartedServer(nil)
	idp.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration") {
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": idp.URL, "token_endpoint": idp.URL + "/token"})
			return
		}
		mu.Lock()
		defer mu.Unlock()
		refreshed = append(refreshed, r.FormValue("refresh_token"))
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "a", "token_type": "Bearer", "id_token": next, "refresh_token": "refresh-2"})
	})
	idp.StartTLS()
	defer idp.Close()
	user := func(token string) string {
		return fmt.Sprintf(`{"auth-provider": {"name": "oidc", "config": {"idp-issuer-url": %q, "client-id": "kubectl", "client-secret": "s",
"idp-certificate-authority-data": %q, "id-token": %q, "refresh-token": "refresh-1"}}}`, idp.URL, caOf(idp), token)
	}

	valid := oidcToken(t, "valid", time.Now().Add(time.Hour))
	if n, err := nodesAs(t, asUser(t, signedIn(t, valid), user(valid))); err != nil || len(n) != 1 || len(refreshed) != 0 {
		t.Errorf("%v %v, refreshed %q", n, err, refreshed)
	}
	file := asUser(t, signedIn(t, next), user(oidcToken(t, "old", time.Now().Add(-time.Hour))))
	if n, err := nodesAs(t, file); err != nil || len(n) != 1 || len(refreshed) != 1 || refreshed[0] != "refresh-1" {
		t.Errorf("%v %v, refreshed %q", n, err, refreshed)
	}
	if raw, err := os.ReadFile(file); err != nil || !strings.Contains(string(raw), next) || !strings.Contains(string(raw), "refresh-2") {
		t.Errorf("the new tokens are not kept: %v", err)
	}
}

// Other providers have left client-go; the error says so.
func TestRemovedAuthProvider(t *testing.T) {
	_, err := nodesAs(t, asUser(t, signedIn(t, ""), `{"auth-provider": {"name": "gcp", "config": {}}}`))
	if p := rollout.AsProblem(err); err == nil || !strings.Contains(p.Message, "gcp") || !strings.Contains(p.Hint, "exec") {
		t.Errorf("%+v", p)
	}
}
