package main

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// handedOver is fleetd serve with a socket that somebody else listens on, as systemd
// starts it.
func handedOver(t *testing.T, l net.Listener, env string) *exec.Cmd {
	t.Helper()
	socket, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "serve.yaml")
	text := "state: " + dir + "/state\ntokens: [{name: script, roles: [viewer], sha256: 646a7172b96a1fcb64878615c71965645e1e9752f6e6e0647a1c3f37ab8a0fc2}]\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "sh", "-c", env+` exec fleetd serve --config "$0"`, config)
	c.ExtraFiles = []*os.File{socket}
	t.Cleanup(func() { socket.Close() })
	return c
}

func listenOn(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// TestSocketHandedOver: it is the one that is served on, not that of the configuration,
// and what came before the program was there is answered.
func TestSocketHandedOver(t *testing.T) {
	l := listenOn(t, "tcp", "127.0.0.1:0")
	c := handedOver(t, l, "LISTEN_PID=$$ LISTEN_FDS=1")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	r, err := http.Get("http://" + l.Addr().String() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		t.Error(r.Status)
	}
}

// TestSocketRefused: a socket that others reach takes TLS, wherever it comes from, and
// what is not one to listen on is named.
func TestSocketRefused(t *testing.T) {
	for name, c := range map[string]struct{ network, address, env, want string }{
		"reached by others": {"tcp", "0.0.0.0:0", "LISTEN_PID=$$ LISTEN_FDS=1", "which others reach, needs tls in the configuration"},
		"two":               {"tcp", "127.0.0.1:0", "LISTEN_PID=$$ LISTEN_FDS=2", "2 sockets were handed over"},
		"not of TCP":        {"unix", t.TempDir() + "/s", "LISTEN_PID=$$ LISTEN_FDS=1", "is of unix, not of TCP"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := handedOver(t, listenOn(t, c.network, c.address), c.env).CombinedOutput()
			if err == nil || !strings.Contains(string(out), c.want) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
