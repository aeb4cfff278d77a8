package bench

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

const forks = 64

// A job is what a client process of this test binary has to do.
type job struct {
	Hosts      []string
	Port       int
	User       string
	Key        string
	KnownHosts string
	HostKey    string // authorized_keys format, for the bare loop
}

// TestMain lets this binary be a server or a client of the benchmarks, too, so
// that each is measured as a process of its own.
func TestMain(m *testing.M) {
	switch os.Getenv("FLEETD_BENCH_ROLE") {
	case "server":
		serve()
		return
	case "bare":
		bare(readJob())
		return
	case "pool":
		pool(readJob())
		return
	}
	flag.Parse()
	if flag.Lookup("test.bench").Value.String() != "" && os.Getuid() == 0 && os.Getenv("FLEETD_BENCH_NETNS") == "" {
		// sshd must listen on many addresses, which no other machine may see.
		args := append([]string{"--net", "/bin/sh", "-c", `ip link set lo up && exec "$@"`, "sh"}, os.Args...)
		cmd := exec.Command("unshare", args...)
		cmd.Env = append(os.Environ(), "FLEETD_BENCH_NETNS=1")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func readJob() job {
	var j job
	if err := json.NewDecoder(os.Stdin).Decode(&j); err != nil {
		fatal(err)
	}
	return j
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// serve is an in-process node, until standard input ends.
func serve() {
	dir, err := os.MkdirTemp("", "fleetd-bench")
	if err != nil {
		fatal(err)
	}
	defer os.RemoveAll(dir)
	srv, err := sshtest.Start(dir, sshtest.Handler(func(*sshtest.Request) sshtest.Response {
		return sshtest.Response{Stdout: "6.1.4-1.el7.elrepo.x86_64 #1 SMP PREEMPT_DYNAMIC\n"}
	}))
	if err != nil {
		fatal(err)
	}
	defer srv.Close()
	known, err := os.ReadFile(srv.KnownHostsFile())
	if err != nil {
		fatal(err)
	}
	_, key, _ := strings.Cut(string(known), " ")
	if err := os.WriteFile(srv.KnownHostsFile(), []byte("node* "+key), 0o600); err != nil {
		fatal(err)
	}
	t := srv.Target("")
	_ = json.NewEncoder(os.Stdout).Encode(job{Port: t.Port, User: t.User, Key: srv.ClientKeyFile(), KnownHosts: srv.KnownHostsFile()})
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// bare is the least that a program can do: dial, run, print.
func bare(j job) {
	raw, err := os.ReadFile(j.Key)
	if err != nil {
		fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(raw)
	if err != nil {
		fatal(err)
	}
	hostKey, _, _, _, err := ssh.ParseAuthorizedKey([]byte(j.HostKey))
	if err != nil {
		fatal(err)
	}
	config := &ssh.ClientConfig{
		User: j.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: ssh.FixedHostKey(hostKey), HostKeyAlgorithms: []string{hostKey.Type()}, Timeout: time.Minute,
	}
	places := make(chan struct{}, forks)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, h := range j.Hosts {
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			client, err := ssh.Dial("tcp", fmt.Sprintf("%s:%d", h, j.Port), config)
			if err != nil {
				fatal(err)
			}
			defer client.Close()
			s, err := client.NewSession()
			if err != nil {
				fatal(err)
			}
			out, err := s.Output("uname -rv")
			if err != nil {
				fatal(err)
			}
			mu.Lock()
			defer mu.Unlock()
			fmt.Printf("%s: %s", h, out)
		})
	}
	wg.Wait()
}

func (j job) targets() []sshexec.Target {
	var out []sshexec.Target
	for _, h := range j.Hosts {
		out = append(out, sshexec.Target{
			Name: h, Address: h, Port: j.Port, User: j.User, IdentityFiles: []string{j.Key}, IdentitiesOnly: true,
			IdentityAgent: "none", KnownHosts: []string{j.KnownHosts}, ConnectTimeout: time.Minute,
		})
	}
	return out
}

func pool(j job) {
	p := sshexec.NewPool(sshexec.Options{MaxDials: forks})
	defer p.Close()
	p.RunAll(context.Background(), j.targets(), sshexec.Command{Argv: []string{"uname", "-rv"}}, forks, func(r sshexec.HostResult) {
		if r.Err != nil {
			fatal(r.Err)
		}
		fmt.Printf("%s: %s", r.Host, r.Result.Stdout)
	})
}
