package sshexec_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
	"golang.org/x/sys/unix"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

func TestAcceptNew(t *testing.T) {
	srv := sshtest.New(t)
	dir := t.TempDir()
	file := dir + "/new/known_hosts"
	target := srv.Target("web1")
	target.KnownHosts = []string{file}
	p := newPool(t, sshexec.Options{})
	if err := runTrue(t, p, target); sshexec.KindOf(err) != sshexec.KindHostKey || !strings.Contains(sshexec.HintOf(err), "ssh-keyscan -p") {
		t.Fatalf("strict: %v (%s)", err, sshexec.HintOf(err))
	}
	if _, err := os.Stat(file); err == nil {
		t.Fatal("strict wrote known_hosts")
	}
	target.HostKeyPolicy = sshexec.AcceptNew
	if err := runTrue(t, p, target); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := os.ReadFile(srv.KnownHostsFile())
	if string(first) != string(want) {
		t.Errorf("wrote %q, want %q", first, want)
	}
	p.Forget(target)
	if err := runTrue(t, p, target); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.ReadFile(file); string(again) != string(first) {
		t.Error("a known key was written again")
	}
	srv.SetHostKey(sshtest.NewKey())
	p.Forget(target)
	if err := runTrue(t, p, target); sshexec.KindOf(err) != sshexec.KindHostKey || !strings.Contains(err.Error(), "has changed") {
		t.Errorf("a changed key: %v", err)
	}

	t.Run("no name that stands for other hosts", func(t *testing.T) {
		for _, alias := range []string{"*", "web?", "a,b", "a b", "web1 ssh-ed25519 AAAA\n*", "@cert-authority", "#web1", "|1|x", "!web1"} {
			target := srv.Target("web1")
			target.HostKeyPolicy, target.HostKeyAlias, target.KnownHosts = sshexec.AcceptNew, alias, []string{t.TempDir() + "/known_hosts"}
			if err := runTrue(t, p, target); sshexec.KindOf(err) != sshexec.KindHostKey {
				t.Errorf("%q: %v", alias, err)
			}
			if b, err := os.ReadFile(target.KnownHosts[0]); err == nil {
				t.Errorf("%q: %q was recorded", alias, b)
			}
		}
	})
	t.Run("hidden names stay hidden, a missing newline is added", func(t *testing.T) {
		f := dir + "/hashed"
		line := knownhosts.HashHostname("elsewhere") + " " + keyText(sshtest.NewKey().PublicKey())
		if err := os.WriteFile(f, []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
		target := srv.Target("web1")
		target.KnownHosts, target.HostKeyPolicy = []string{f}, sshexec.AcceptNew
		if err := runTrue(t, newPool(t, sshexec.Options{}), target); err != nil {
			t.Fatal(err)
		}
		b, _ := os.ReadFile(f)
		lines := strings.Split(string(b), "\n")
		if len(lines) != 3 || lines[0] != line || !strings.HasPrefix(lines[1], "|1|") || lines[2] != "" {
			t.Errorf("file: %q", b)
		}
		target.HostKeyPolicy = sshexec.Strict
		if err := runTrue(t, newPool(t, sshexec.Options{}), target); err != nil {
			t.Error(err)
		}
	})
}

// A learnJob is what one of the processes of TestTwoFleetdsWriteKnownHosts does.
type learnJob struct {
	Targets []sshexec.Target
}

// learnHostKeys connects to every target and prints those that let it in.
func learnHostKeys(job string) (exit int) {
	var j learnJob
	if err := json.Unmarshal([]byte(job), &j); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	p := sshexec.NewPool(sshexec.Options{})
	defer p.Close()
	p.RunAll(context.Background(), j.Targets, sshexec.Command{Argv: []string{"true"}}, 0, func(r sshexec.HostResult) {
		switch {
		case r.Err == nil:
			fmt.Println(r.Host)
		case sshexec.KindOf(r.Err) != sshexec.KindHostKey:
			fmt.Fprintln(os.Stderr, r.Err)
			exit = 1
		}
	})
	return exit
}

// TestTwoFleetdsWriteKnownHosts has processes learn many hosts at once, and two
// keys of one name at once. A third writer appends without a lock, as ssh does.
func TestTwoFleetdsWriteKnownHosts(t *testing.T) {
	t.Parallel()
	srv, impostor := sshtest.New(t), sshtest.New(t)
	file := t.TempDir() + "/known_hosts"
	const hosts = 40
	ssh1 := keyText(sshtest.NewKey().PublicKey())
	appended := make(chan int)
	stop := make(chan struct{})
	go func() {
		n := 0
		defer func() { appended <- n }()
		for ; ; n++ {
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
			}
			f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = fmt.Fprintf(f, "other%d %s\n", n, ssh1)
			f.Close()
		}
	}()
	type learned struct {
		hosts []string
		from  string
	}
	won := make(chan learned)
	var wg sync.WaitGroup
	for _, s := range []*sshtest.Server{srv, impostor, srv, impostor} {
		var j learnJob
		for i := range hosts {
			if s == impostor && i%4 != 0 {
				continue
			}
			target := s.Target(fmt.Sprintf("web%d", i))
			target.HostKeyAlias = target.Name
			target.KnownHosts, target.HostKeyPolicy = []string{file}, sshexec.AcceptNew
			j.Targets = append(j.Targets, target)
		}
		job, err := json.Marshal(j)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "FLEETD_TEST_LEARN="+string(job))
			var stderr strings.Builder
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil {
				t.Errorf("%v\n%s", err, &stderr)
			}
			won <- learned{strings.Fields(string(out)), s.Addr()}
		})
	}
	go func() { wg.Wait(); close(won) }()
	accepted := map[string]map[string]bool{}
	for w := range won {
		for _, h := range w.hosts {
			if accepted[h] == nil {
				accepted[h] = map[string]bool{}
			}
			accepted[h][w.from] = true
		}
	}
	close(stop)
	others := <-appended
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, line := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		_, names, _, _, _, err := ssh.ParseKnownHosts([]byte(line))
		if err != nil || len(names) != 1 || seen[names[0]] {
			t.Fatalf("bad or double line %q: %v", line, err)
		}
		seen[names[0]] = true
	}
	if len(seen) != hosts+others {
		t.Errorf("%d hosts are recorded, want %d", len(seen), hosts+others)
	}
	if len(accepted) != hosts {
		t.Errorf("%d of %d hosts were reached", len(accepted), hosts)
	}
	for h, from := range accepted {
		if len(from) != 1 {
			t.Errorf("two keys were accepted for %s", h)
		}
	}
}

// TestKnownHostsIsLocked: who waits for the lock looks again at what was
// written meanwhile. Here another process learns another key for the name.
func TestKnownHostsIsLocked(t *testing.T) {
	t.Parallel()
	srv := sshtest.New(t)
	file := t.TempDir() + "/known_hosts"
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	target := srv.Target("web1")
	target.HostKeyAlias, target.KnownHosts, target.HostKeyPolicy = "web1", []string{file}, sshexec.AcceptNew
	done := make(chan error)
	p := newPool(t, sshexec.Options{})
	go func() { done <- runTrue(t, p, target) }()
	select {
	case err := <-done:
		t.Errorf("did not wait for the lock: %v", err)
		return
	case <-time.After(time.Second):
	}
	other := sshtest.NewKey().PublicKey()
	if _, err := fmt.Fprintf(f, "web1 %s\n", keyText(other)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	if err := <-done; sshexec.KindOf(err) != sshexec.KindHostKey || !strings.Contains(err.Error(), ssh.FingerprintSHA256(other)) {
		t.Errorf("got %v", err)
	}
}
