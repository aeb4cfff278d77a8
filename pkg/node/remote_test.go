package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/crypto/ssh"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

// journal keeps what Fleet notes.
type journal struct {
	mu  sync.Mutex
	ops []rollout.Operation
}

func (j *journal) Record(o rollout.Operation) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ops = append(j.ops, o)
}
func (*journal) Progress(string) {}

func newPool(t *testing.T) *sshexec.Pool {
	t.Helper()
	pool := sshexec.NewPool(sshexec.Options{DialAttempts: 1})
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	return pool
}

func TestFleetNotesWhatItDoes(t *testing.T) {
	server := sshtest.New(t, sshtest.Handler(func(r *sshtest.Request) sshtest.Response {
		switch r.Command {
		case "init 6":
			r.Server.Reboot(sshtest.Down{Refuse: 1})
			return sshtest.Response{}
		case "false":
			return sshtest.Response{Exit: 1}
		}
		return sshtest.Response{Stdout: "6.1.4-1.el7.elrepo.x86_64\n"}
	}))
	fleet := NewFleet(newPool(t), map[string]sshexec.Target{"node1": server.Target("node1")})
	j := &journal{}
	ctx, cancel := context.WithTimeout(rollout.WithRecorder(t.Context(), j), time.Minute)
	defer cancel()

	for _, argv := range [][]string{{"grubby", "--set-default=/boot/vmlinuz-6.1.4"}, {"grub2-reboot", "CentOS Linux (6.1.4) 7 (Core)"}, {"false"}} {
		if _, err := fleet.Run(ctx, "node1", sshexec.Command{Argv: argv}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := fleet.Run(ctx, "node1", sshexec.Command{Script: "# read the facts\n" + strings.Repeat(": line\n", 1000)}); err != nil {
		t.Fatal(err)
	}
	before := server.BootID()
	if _, err := fleet.Run(ctx, "node1", sshexec.Command{Script: "init 6", Env: map[string]string{"TOKEN": "s3cret"}}); err != nil && sshexec.KindOf(err) != sshexec.KindLost {
		t.Fatal(err)
	}
	back, err := bootIDAfter(ctx, fleet, "node1", before)
	if err != nil || back != server.BootID() {
		t.Fatalf("%q, %v", back, err)
	}
	want := []string{
		"ssh node1 grubby --set-default=/boot/vmlinuz-6.1.4 → rc 0",
		"ssh node1 grub2-reboot 'CentOS Linux (6.1.4) 7 (Core)' → rc 0",
		"ssh node1 false → rc 1",
		"ssh node1 # read the facts … (7016 bytes) → rc 0",
	}
	var got []string
	for _, o := range j.ops {
		got = append(got, fmt.Sprintf("%s %s %s → %s", o.Kind, o.Host, o.Text, o.Result))
	}
	if len(got) < 6 || !slices.Equal(got[:4], want) {
		t.Errorf("journal:\n%s\nwant it to begin:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if last := got[len(got)-1]; last != "ssh node1 cat "+sshexec.BootIDFile+" → rc 0" {
		t.Errorf("the last look at the boot was noted as %s", last)
	}
	if strings.Contains(fmt.Sprint(j.ops), "s3cret") {
		t.Error("an environment variable's value is in the journal")
	}
}

// bootIDAfter looks until the host answers from another boot.
func bootIDAfter(ctx context.Context, f *Fleet, host, before string) (string, error) {
	for {
		f.Forget(host)
		id, err := BootID(ctx, f, host)
		if err == nil && id != before || ctx.Err() != nil {
			return id, err
		}
	}
}

// TestIdentity reads it over a real connection: the names are those that a plan
// is bound to.
func TestIdentity(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/centos-7.txtar")
	if err != nil {
		t.Fatal(err)
	}
	output := string(fixture(t, archive, "output"))
	key := sshtest.NewKey()
	answer := sshtest.Handler(func(r *sshtest.Request) sshtest.Response {
		if len(r.Argv) > 1 && r.Argv[0] == "cat" && r.Argv[1] == "/etc/machine-id" && r.Become == "" {
			return sshtest.Response{Stdout: "Welcome to node1\n8F1d2c9be0a74a1f9d3a6c0b7f5e4d21\n"}
		}
		return sshtest.Response{Stdout: output}
	})
	server, jump := sshtest.New(t, answer, sshtest.HostKey(key)), sshtest.New(t)
	target := server.Target("node1")
	target.ProxyJump = []sshexec.Target{jump.Target("bastion")}
	fleet := NewFleet(newPool(t), map[string]sshexec.Target{"node1": target})
	want := map[string]string{"address": server.Addr(), "host_key": ssh.FingerprintSHA256(key.PublicKey()), "machine_id": "8f1d2c9be0a74a1f9d3a6c0b7f5e4d21"}
	// With all facts, and with nothing else.
	for _, keys := range [][]string{nil, {"", MachineKey}, {MachineKey}} {
		got := Observer{Remote: fleet}.Observe(t.Context(), map[string][]string{"node1": keys})["node1"]
		if diff := cmp.Diff(want, got.Identity); diff != "" || got.Err != nil {
			t.Errorf("%q: %v\n-want +got:\n%s", keys, got.Err, diff)
		}
		if all := len(got.Value) > 2; all != (len(keys) != 1) {
			t.Errorf("%q: read %d bytes of facts", keys, len(got.Value))
		}
	}
}

func TestErrorsSayWhetherTheHostWasReached(t *testing.T) {
	down := sshtest.New(t)
	target := down.Target("down")
	down.Close()
	sudo := sshtest.New(t, sshtest.Sudo(sshtest.SudoPolicy{Password: "right"}))
	wrong := sudo.Target("wrong-sudo")
	wrong.Become = sshexec.Become{Method: "sudo", Password: "wrong"}
	other := sshtest.New(t)
	changed := other.Target("changed-key")
	other.SetHostKey(sshtest.NewKey())
	slow := sshtest.New(t, sshtest.Handler(func(r *sshtest.Request) sshtest.Response {
		<-r.Context.Done()
		return sshtest.Response{}
	}))
	fleet := NewFleet(newPool(t), map[string]sshexec.Target{
		"down": target, "wrong-sudo": wrong, "changed-key": changed, "slow": slow.Target("slow"),
	})
	for host, unreachable := range map[string]bool{"down": true, "wrong-sudo": false, "changed-key": true, "slow": false, "nobody": true} {
		c := sshexec.Command{Argv: []string{"id"}, Become: host == "wrong-sudo"}
		if host == "slow" {
			c.Timeout = 50 * time.Millisecond
		}
		_, err := fleet.Run(t.Context(), host, c)
		if err == nil {
			t.Errorf("%s: no error", host)
			continue
		}
		out := rollout.Fail(fmt.Errorf("cannot do it: %w", err))
		if want := (map[bool]rollout.OutcomeKind{true: rollout.Unreachable, false: rollout.Failed})[unreachable]; out.Kind != want {
			t.Errorf("%s: %s, want %s: %v", host, out.Kind, want, err)
		}
		if !strings.Contains(out.Message, host) {
			t.Errorf("the message does not name %s: %s", host, out.Message)
		}
		if host != "slow" && out.Hint == "" {
			t.Errorf("%s: no hint: %s", host, out.Message)
		}
	}
}

// fakeFleet answers every host with a fixture, and counts how many are asked
// at the same time.
type fakeFleet struct {
	Remote
	output []byte
	forks  int
	full   chan struct{} // closed when as many hosts as forks are asked at once
	others chan struct{} // closed when all hosts that do not hang have been asked
	mu     sync.Mutex
	now    int
	most   int
	asked  int
}

// Connect hangs for ten hosts, which are more than the forks, until the others
// have been asked.
func (f *fakeFleet) Connect(_ context.Context, host string) error {
	if host == "host007" {
		return &unreachable{&sshexec.Error{Host: host, Op: "connect", Kind: sshexec.KindUnreachable, Err: errors.New("connection refused")}}
	}
	if host >= "host020" && host < "host030" {
		select {
		case <-f.others:
			return errors.New("no answer")
		case <-time.After(time.Minute):
			return errors.New("the others wait for this one")
		}
	}
	return nil
}

func (f *fakeFleet) Reached(host string) (address, hostKey string) {
	if host == "host031" {
		return host + ":22", "" // the connection was lost meanwhile
	}
	return host + ":22", "SHA256:" + host
}

func (f *fakeFleet) Run(ctx context.Context, host string, c sshexec.Command) (sshexec.Result, error) {
	f.mu.Lock()
	f.now++
	if f.asked++; f.asked == 38 { // 50, less ten that hang, one that refuses, one with a wrong key
		close(f.others)
	}
	if f.most = max(f.most, f.now); f.now == f.forks && f.most == f.forks {
		select {
		case <-f.full:
		default:
			close(f.full)
		}
	}
	f.mu.Unlock()
	select {
	case <-f.full:
	case <-time.After(time.Minute): // fewer than forks: the test says so
	}
	f.mu.Lock()
	f.now--
	f.mu.Unlock()
	switch host {
	case "host011":
		return sshexec.Result{ExitStatus: 2, Stderr: []byte("sh: /tmp is full\n")}, nil
	case "host013":
		return sshexec.Result{Stdout: f.output, Truncated: true}, nil
	}
	if !c.Become || !strings.Contains(c.Script, "fleetd-facts") {
		return sshexec.Result{}, fmt.Errorf("asked for %+v", c)
	}
	return sshexec.Result{Stdout: f.output}, nil
}

func TestObserver(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/centos-7.txtar")
	if err != nil {
		t.Fatal(err)
	}
	fake := &fakeFleet{output: fixture(t, archive, "output"), forks: 7, full: make(chan struct{}), others: make(chan struct{})}
	keys := map[string][]string{}
	for i := range 50 {
		keys[fmt.Sprintf("host%03d", i)] = []string{"", "file=/etc/hosts"}
	}
	keys["host017"] = []string{"file=relative"}
	got := Observer{Remote: fake, Forks: 7}.Observe(t.Context(), keys)
	if len(got) != len(keys) {
		t.Fatalf("%d answers to %d hosts", len(got), len(keys))
	}
	if fake.most != 7 {
		t.Errorf("%d hosts at once, want 7", fake.most)
	}
	for host, so := range got {
		want := map[string]string{
			"host007": "cannot read the facts of host007: " + (&sshexec.Error{Host: "host007", Op: "connect", Kind: sshexec.KindUnreachable, Err: errors.New("connection refused")}).Error(),
			"host011": "cannot read the facts of host011: exit status 2: the node did not run the facts script: its output does not begin as the script's does (sh: /tmp is full)",
			"host013": "cannot read the facts of host013: exit status 0: they are larger than 8 MB",
			"host017": `cannot read the facts of host017: read key "file=relative": the path is not absolute`,
		}[host]
		if host >= "host020" && host < "host030" {
			want = "cannot read the facts of " + host + ": no answer"
		}
		switch {
		case want == "" && so.Err != nil:
			t.Errorf("%s: %v", host, so.Err)
		case want != "" && (so.Err == nil || so.Err.Error() != want):
			t.Errorf("%s: %v\nwant %s", host, so.Err, want)
		case want == "":
			f, err := Section.Get(rollout.State{"node": rollout.Encoded(so.Value)})
			if err != nil || f.Running != "3.10.0-1160.80.1.el7.x86_64" {
				t.Errorf("%s: %+v, %v", host, f, err)
			}
			identity := map[string]string{"address": host + ":22", "host_key": "SHA256:" + host, "machine_id": "8f1d2c9be0a74a1f9d3a6c0b7f5e4d21"}
			if host == "host031" {
				delete(identity, "host_key")
			}
			if diff := cmp.Diff(identity, so.Identity); diff != "" {
				t.Errorf("%s: identity (-want +got):\n%s", host, diff)
			}
		}
	}
	if !rollout.AsProblem(got["host007"].Err).Unreachable {
		t.Error("host007 is not marked as unreachable")
	}
}

func TestCheckKey(t *testing.T) {
	for key, ok := range map[string]bool{
		"package=kernel-ml@elrepo-kernel": true, "package=kernel-ml@Site_ELRepo_kernel-el9": true, "file=/a b/c": true,
		"package=kernel-ml": false, "package=@x": false, "package=k@": false, "package=k@*": false, "package=-y@x": false, "package=k@x --y": false,
		"file=x": false, "file=/a\nb": false, "brief": false, "port=22": false,
	} {
		if err := checkKey(key); (err == nil) != ok {
			t.Errorf("checkKey(%q) = %v", key, err)
		}
	}
}

// TestCanceledLookStartsNothing: Ctrl-C while a fleet is looked at waits for nobody.
// To kill what reads the facts would take another session on each host, for which a
// silent one is waited for.
func TestCanceledLookStartsNothing(t *testing.T) {
	looking := make(chan struct{}, 8)
	targets, keys := map[string]sshexec.Target{}, map[string][]string{}
	var servers []*sshtest.Server
	for i := range 8 {
		server := sshtest.New(t, sshtest.Handler(func(r *sshtest.Request) sshtest.Response {
			looking <- struct{}{}
			<-r.Context.Done()
			return sshtest.Response{}
		}))
		host := fmt.Sprint("node", i)
		servers, targets[host], keys[host] = append(servers, server), server.Target(host), []string{""}
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-looking
		<-looking
		cancel()
	}()
	seen := Observer{Remote: NewFleet(newPool(t), targets), Forks: 2}.Observe(ctx, keys)
	running, asked := 0, 0
	for i, s := range servers {
		running += s.Running()
		asked += len(s.Requests())
		if err := seen[fmt.Sprint("node", i)].Err; !errors.Is(err, context.Canceled) {
			t.Errorf("node%d: %v", i, err)
		}
	}
	if running != 2 || asked != 2 {
		t.Errorf("%d commands run of %d, want 2 of 2", running, asked)
	}
}
