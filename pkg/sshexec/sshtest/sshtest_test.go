package sshtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	srv, err := sshtest.Start(dir, sshtest.Sudo(sshtest.SudoPolicy{Password: "pw"}), sshtest.Handler(func(r *sshtest.Request) sshtest.Response {
		if r.Command == "uname -r" {
			return sshtest.Response{Stdout: "6.1.4-1.el7.elrepo.x86_64\n"}
		}
		in, _ := io.ReadAll(r.Stdin)
		return sshtest.Response{Stdout: fmt.Sprintf("%s as %s with %q and %v\n", r.Command, r.Become, in, r.Env), Exit: 3}
	}))
	if err != nil {
		panic(err)
	}
	defer srv.Close()
	pool := sshexec.NewPool(sshexec.Options{})
	defer pool.Close()
	ctx := context.Background()

	res, err := pool.Run(ctx, srv.Target("web1"), sshexec.Command{Argv: []string{"uname", "-r"}})
	fmt.Printf("%s%v\n", res.Stdout, err)
	res, err = pool.Run(ctx, srv.Target("web1"), sshexec.Command{Argv: []string{"tee", "a b"}, Stdin: strings.NewReader("in"), Env: map[string]string{"LANG": "C"}, Become: true})
	fmt.Printf("%s%d %v\n", res.Stdout, res.ExitStatus, err)
	res, err = pool.Run(ctx, srv.Target("web1"), sshexec.Command{Argv: []string{"id"}, Become: true, BecomeAs: sshexec.BecomeAs{User: "postgres"}})
	fmt.Printf("%s%d %v\n", res.Stdout, res.ExitStatus, err)
	// Output:
	// 6.1.4-1.el7.elrepo.x86_64
	// <nil>
	// tee 'a b' as root with "in" and map[LANG:C]
	// 3 <nil>
	// id as postgres with "" and map[]
	// 3 <nil>
}

// TestPlainClient: a client that knows nothing of sshexec is served too.
func TestPlainClient(t *testing.T) {
	srv := sshtest.New(t, sshtest.Password("pw"))
	client, err := ssh.Dial("tcp", srv.Addr(), &ssh.ClientConfig{
		User: sshtest.User, Auth: []ssh.AuthMethod{ssh.Password("pw")}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	s, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.CombinedOutput("echo $((6*7)); exit 3")
	var exit *ssh.ExitError
	if string(out) != "42\n" || !errors.As(err, &exit) || exit.ExitStatus() != 3 {
		t.Errorf("%q, %v", out, err)
	}
}

func TestRequestsAreRecorded(t *testing.T) {
	srv := sshtest.New(t)
	pool := sshexec.NewPool(sshexec.Options{})
	defer pool.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := pool.Run(ctx, srv.Target("web1"), sshexec.Command{Script: "exit 3"}); err != nil {
		t.Fatal(err)
	}
	const x = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
	if err := pool.Upload(ctx, srv.Target("web1"), sshexec.Upload{Path: "/etc/x", Content: strings.NewReader("x"), Size: 1, SHA256: x}); err != nil {
		t.Fatal(err)
	}
	boot, err := pool.Run(ctx, srv.Target("web1"), sshexec.Command{Argv: []string{"cat", sshexec.BootIDFile}})
	if id := strings.TrimSpace(string(boot.Stdout)); err != nil || id != srv.BootID() {
		t.Errorf("boot ID %q, %v", id, err)
	}
	var got []string
	for _, r := range srv.Requests() {
		got = append(got, r.Command)
	}
	if want := "exit 3|cat /proc/sys/kernel/random/boot_id"; strings.Join(got, "|") != want {
		t.Errorf("got %q", got)
	}
}
