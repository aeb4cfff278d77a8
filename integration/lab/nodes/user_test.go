//go:build lab

package nodes

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// user does on a node by hand what fleetd is to do by itself.
type user struct {
	t    *testing.T
	ctx  context.Context
	node *Node
}

func (u *user) run(command string) string {
	u.t.Helper()
	out, err := u.node.lab.Run(u.ctx, u.node.Index, command)
	if err != nil {
		u.t.Fatal(err)
	}
	return out
}

func (u *user) fails(command, with string) {
	u.t.Helper()
	out, err := u.node.lab.Run(u.ctx, u.node.Index, command+" 2>&1")
	var exit *ssh.ExitError
	if !errors.As(err, &exit) {
		u.t.Fatalf("%s: want an exit status other than 0, got %v\n%s", command, err, out)
	}
	if !strings.Contains(out, with) {
		u.t.Errorf("%s: want %q in\n%s", command, with, out)
	}
}

func (u *user) equal(what, got, want string) {
	u.t.Helper()
	if got != want {
		u.t.Fatalf("%s: %q, want %q", what, got, want)
	}
}

func (u *user) uname(want string) { u.t.Helper(); u.equal("uname -r", u.run("uname -r"), want) }

func (u *user) defaultKernel(want string) {
	u.t.Helper()
	u.equal("grubby --default-kernel", u.run("grubby --default-kernel"), "/boot/vmlinuz-"+want)
}

// reboot reboots by command, and returns when the node answers from another boot.
func (u *user) reboot() {
	u.t.Helper()
	lap := stopwatch(u.t)
	before := u.run("cat /proc/sys/kernel/random/boot_id")
	// The connection may end before the answer.
	_, _ = u.node.lab.Run(u.ctx, u.node.Index, "init 6")
	if _, err := u.node.WaitBoot(u.ctx, before); err != nil {
		u.t.Fatal(err)
	}
	lap("reboot")
}

// entry is what saved_entry and next_entry hold for a kernel.
func (u *user) entry(kernel string) string {
	if u.node.Flavour == EL7 {
		return "CentOS Linux (" + kernel + ") 7 (Core)"
	}
	return u.run("cat /etc/machine-id") + "-" + kernel
}

func (u *user) identity() {
	u.equal("hostname", u.run("hostname"), u.node.Name)
	u.uname(u.node.Kernels.Base)
	u.defaultKernel(u.node.Kernels.Base)
	if u.node.Flavour == EL8 {
		u.equal("a file of the test", u.run("cat /etc/lab-file"), "from the seed")
	}
	if failed := u.run("systemctl --failed --no-legend --plain"); failed != "" {
		u.t.Errorf("units that failed at boot:\n%s", failed)
	}
	// The other two users, in the way that a person logs in.
	u.login("centos", "sudo -n id -un", "", "root")
	u.login("ops", "sudo -k; sudo -S -p '' id -un", OpsPassword+"\n", "root")
	u.login("ops", "sudo -k; sudo -n id -un || echo refused", "", "refused")
}

func (u *user) login(name, command, stdin, want string) {
	u.t.Helper()
	identity, err := os.ReadFile(u.node.lab.IdentityFile)
	if err != nil {
		u.t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(identity)
	if err != nil {
		u.t.Fatal(err)
	}
	c, err := u.dial(name, ssh.PublicKeys(signer))
	if err != nil {
		u.t.Fatal(err)
	}
	defer c.Close()
	session, err := c.NewSession()
	if err != nil {
		u.t.Fatal(err)
	}
	session.Stdin = strings.NewReader(stdin)
	out, err := session.Output(command)
	if err != nil {
		u.t.Fatalf("%s as %s: %v", command, name, err)
	}
	u.equal(command+" as "+name, strings.TrimSpace(string(out)), want)
}

// dial checks the host key as ssh does, against the known_hosts file.
func (u *user) dial(name string, auth ssh.AuthMethod) (*ssh.Client, error) {
	check, err := knownhosts.New(u.node.lab.KnownHosts)
	if err != nil {
		return nil, err
	}
	addr := u.node.Address + ":22"
	conn, err := u.node.lab.DialContext(u.ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c, chans, reqs, err := ssh.NewClientConn(conn, addr, &ssh.ClientConfig{
		User: name, Auth: []ssh.AuthMethod{auth}, HostKeyCallback: check, HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
	})
	if err != nil {
		return nil, err
	}
	return ssh.NewClient(c, chans, reqs), nil
}

func (u *user) report(reports *nodeReports) {
	boot, kernel := u.run("cat /proc/sys/kernel/random/boot_id"), u.run("uname -r")
	want := nodeReport{BootID: boot, KernelVersion: kernel}
	got := reports.wait(u.ctx, u.node.Name, want)
	if got != want {
		u.t.Errorf("the API server was told %+v, want %+v", got, want)
	}
}
