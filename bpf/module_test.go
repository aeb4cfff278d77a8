package bpf

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

const (
	host   = "worker-1"
	elrepo = "6.1.4-1.el7.elrepo.x86_64"
	el7    = "3.10.0-1160.el7.x86_64"
)

var (
	object1 = Objects()[0]
	target  = object1.Path()
	old     = []byte("\x7fELF an object of an older fleetd")
)

func digest(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

func state(t *testing.T, kernel string, f node.File) rollout.State {
	t.Helper()
	facts := node.Facts{Running: kernel}
	if f != (node.File{}) {
		facts.Files = map[string]node.File{target: f}
	}
	return node.Section.With(nil, facts)
}

func module(t *testing.T, h Hosts) rollout.Module {
	t.Helper()
	m, ok := Modules(Deps{Hosts: h})["fleetd.bpf.object"]
	if !ok {
		t.Fatal("there is no module fleetd.bpf.object")
	}
	return m
}

func TestDiff(t *testing.T) {
	m := module(t, nil)
	current := node.File{Exists: true, SHA256: object1.SHA256, Mode: "644", Size: int64(len(object1.Bytes))}
	older := node.File{Exists: true, SHA256: digest(old), Mode: "600", Size: int64(len(old))}
	present, absent := rollout.Args{"name": TCPConnect}, rollout.Args{"name": TCPConnect, "state": "absent"}
	now, then := "sha256:"+object1.SHA256, "sha256:"+digest(old)
	for _, c := range []struct {
		name    string
		kernel  string
		file    node.File
		args    rollout.Args
		action  rollout.Action
		summary string
		fields  []rollout.Field
		after   node.File
	}{
		{"ship", elrepo, node.File{}, present, rollout.Create, "ship BPF object tcp_connect", []rollout.Field{{Name: target, After: now}}, current},
		{"as a list", elrepo, node.File{}, rollout.Args{"objects": []any{TCPConnect, TCPConnect}, "state": "present"}, rollout.Create, "ship BPF object tcp_connect", []rollout.Field{{Name: target, After: now}}, current},
		{"newer version", elrepo, older, present, rollout.Update, "ship BPF object tcp_connect", []rollout.Field{{Name: target, Before: then, After: now}}, current},
		{"only the mode", elrepo, node.File{Exists: true, SHA256: object1.SHA256, Mode: "600", Size: current.Size}, present, rollout.Update, "ship BPF object tcp_connect", []rollout.Field{{Name: target + " mode", Before: "600", After: "644"}}, current},
		{"in place", elrepo, current, present, rollout.NoOp, "BPF object tcp_connect is in place", nil, current},
		{"RHEL's backports", "4.18.0-553.el8_10.x86_64", node.File{}, present, rollout.Create, "ship BPF object tcp_connect", []rollout.Field{{Name: target, After: now}}, current},
		{"remove", elrepo, older, absent, rollout.Delete, "remove BPF object tcp_connect", []rollout.Field{{Name: target, Before: then}}, node.File{}},
		{"remove under an old kernel", el7, current, absent, rollout.Delete, "remove BPF object tcp_connect", []rollout.Field{{Name: target, Before: now}}, node.File{}},
		{"nothing to remove", elrepo, node.File{}, absent, rollout.NoOp, "BPF object tcp_connect is not there", nil, node.File{}},
		{"a variable without a value", el7, node.File{}, rollout.Args{"objects": nil}, rollout.NoOp, "no BPF object is asked for", nil, node.File{}},
		{"none asked for", el7, node.File{}, rollout.Args{"objects": []any{}}, rollout.NoOp, "no BPF object is asked for", nil, node.File{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := state(t, c.kernel, c.file)
			change, after, err := m.Diff(host, before, c.args)
			if err != nil {
				t.Fatal(err)
			}
			if given, err := node.Section.Get(before); err != nil || given.Files[target] != c.file {
				t.Errorf("the state that it was given has become %+v, %v", given.Files[target], err)
			}
			if change.Action != c.action || change.Summary != c.summary {
				t.Errorf("%s, %q; want %s, %q", change.Action, change.Summary, c.action, c.summary)
			}
			if diff := cmp.Diff(c.fields, change.Fields); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
			facts, err := node.Section.Get(after)
			if err != nil {
				t.Fatal(err)
			}
			if facts.Files[target] != c.after || facts.Running != c.kernel {
				t.Errorf("the host would be left with %+v under %s", facts.Files[target], facts.Running)
			}
			// What Diff says comes of it is what it then finds nothing to do about.
			again, _, err := m.Diff(host, after, c.args)
			if err != nil || again.Action != rollout.NoOp {
				t.Errorf("planned on its own result: %s, %v", again.Action, err)
			}
		})
	}
}

func TestDiffRefuses(t *testing.T) {
	m := module(t, nil)
	for _, c := range []struct {
		name      string
		state     rollout.State
		args      rollout.Args
		err, hint string // hint "" = a mistake in the arguments, no Problem
	}{
		{"kernel too old", state(t, el7, node.File{}), rollout.Args{"name": TCPConnect},
			"cannot ship BPF object tcp_connect to worker-1: it needs Linux 4.18, the node would run 3.10.0-1160.el7.x86_64", "boot a newer kernel before this task"},
		{"kernel unknown", state(t, "", node.File{}), rollout.Args{"name": TCPConnect},
			`cannot tell whether BPF object tcp_connect loads on worker-1: "" is not a kernel release`, "it needs Linux 4.18"},
		{"a folder in its place", state(t, elrepo, node.File{Exists: true, Mode: "755"}), rollout.Args{"name": TCPConnect},
			"cannot put /usr/local/lib/fleetd/bpf/tcp_connect.o on worker-1: there is something of that name that is no file", "ls -ld"},
		{"unknown object", state(t, elrepo, node.File{}), rollout.Args{"name": "udp"}, `no BPF object is named "udp"; there is: tcp_connect`, ""},
		{"no object", state(t, elrepo, node.File{}), rollout.Args{}, "takes one of name and objects", ""},
		{"both", state(t, elrepo, node.File{}), rollout.Args{"name": "a", "objects": []any{}}, "takes one of name and objects", ""},
		{"not a name", state(t, elrepo, node.File{}), rollout.Args{"objects": []any{int64(1)}}, "1 is not the name of an object", ""},
		{"not a list", state(t, elrepo, node.File{}), rollout.Args{"objects": true}, "true is not a list of names", ""},
		{"state", state(t, elrepo, node.File{}), rollout.Args{"name": TCPConnect, "state": "latest"}, "latest is neither present nor absent", ""},
		{"not observed", nil, rollout.Args{"name": TCPConnect}, `nothing was observed of section "node"`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := m.Diff(host, c.state, c.args)
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Fatalf("error %v, want %q", err, c.err)
			}
			var p *rollout.Problem
			switch is := errors.As(err, &p); {
			case is != (c.hint != ""):
				t.Errorf("is a problem of the host: %t", is)
			case is && !strings.Contains(p.Hint, c.hint):
				t.Errorf("hint %q, want %q", p.Hint, c.hint)
			}
		})
	}
}

func TestReads(t *testing.T) {
	got := module(t, nil).Reads(rollout.Args{"objects": []any{TCPConnect}})
	want := []rollout.Read{{Section: "node"}, {Section: "node", Key: "file=" + target}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// bench is a node behind an SSH server of the test's own. Its file system is a
// folder: paths in a command's environment are moved below it.
type bench struct {
	*sshtest.Server
	module rollout.Module
	t      *testing.T
}

func newBench(t *testing.T, opts ...sshtest.Option) *bench {
	handle := func(r *sshtest.Request) sshtest.Response {
		for k, v := range r.Env {
			if path.IsAbs(v) {
				r.Env[k] = r.Server.Path(v)
			}
		}
		return r.Shell()
	}
	srv := sshtest.New(t, append([]sshtest.Option{sshtest.Handler(handle)}, opts...)...)
	pool := sshexec.NewPool(sshexec.Options{})
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	fleet := node.NewFleet(pool, map[string]sshexec.Target{host: srv.Target(host)})
	return &bench{srv, module(t, fleet), t}
}

// state is what the facts script would find.
func (b *bench) state() rollout.State {
	content, err := b.ReadFile(target)
	if os.IsNotExist(err) {
		return state(b.t, elrepo, node.File{})
	}
	if err != nil {
		b.t.Fatal(err)
	}
	info, err := os.Stat(b.Path(target))
	if err != nil {
		b.t.Fatal(err)
	}
	return state(b.t, elrepo, node.File{Exists: true, SHA256: digest(content), Mode: fmt.Sprintf("%o", info.Mode().Perm()), Size: info.Size()})
}

func (b *bench) plan(args rollout.Args) rollout.Step {
	b.t.Helper()
	c, _, err := b.module.Diff(host, b.state(), args)
	if err != nil {
		b.t.Fatal(err)
	}
	return rollout.Step{Host: host, Change: c, Become: true, Attempt: 1}
}

func (b *bench) do(s rollout.Step) rollout.Outcome   { return b.drive(b.module.Do, s) }
func (b *bench) undo(s rollout.Step) rollout.Outcome { return b.drive(b.module.Undo, s) }

// drive calls as the engine does, until the step is over.
func (b *bench) drive(call func(context.Context, rollout.Step) rollout.Outcome, s rollout.Step) rollout.Outcome {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	for range 20 {
		o := call(ctx, s)
		if o.Final() {
			return o
		}
		s = remember(s, o)
	}
	b.t.Fatal("the step comes to no end")
	return rollout.Outcome{}
}

// remember is the step with the notes of an outcome.
func remember(s rollout.Step, o rollout.Outcome) rollout.Step {
	s.SoFar = maps.Clone(s.SoFar)
	if s.SoFar == nil {
		s.SoFar = map[string]string{}
	}
	maps.Copy(s.SoFar, o.Notes)
	return s
}

func (b *bench) want(o rollout.Outcome, kind rollout.OutcomeKind, message string) {
	b.t.Helper()
	if o.Kind != kind || !strings.Contains(o.Message, message) {
		b.t.Fatalf("outcome %+v, want %s: %q", o, kind, message)
	}
}

// files are all files of the node, with what is in them.
func (b *bench) files() map[string]string {
	out := map[string]string{}
	if _, err := os.Stat(b.Root()); os.IsNotExist(err) {
		return out // nothing was written yet
	}
	err := filepath.WalkDir(b.Root(), func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(p, b.Root())
		if d.IsDir() {
			if strings.Contains(name, "/fleetd") {
				out[name+"/"] = ""
			}
			return nil
		}
		content, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		out[name] = fmt.Sprintf("%o %s", info.Mode().Perm(), digest(content))
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

func (b *bench) wantFiles(want map[string]string) {
	b.t.Helper()
	if diff := cmp.Diff(want, b.files()); diff != "" {
		b.t.Fatalf("files on the node (-want +got):\n%s", diff)
	}
}

var (
	ours    = map[string]string{"/usr/local/lib/fleetd/": "", "/usr/local/lib/fleetd/bpf/": "", target: "644 " + object1.SHA256}
	present = rollout.Args{"name": TCPConnect}
	absent  = rollout.Args{"name": TCPConnect, "state": "absent"}
)

func TestShipAndTakeBack(t *testing.T) {
	b := newBench(t)
	step := b.plan(present)
	b.want(b.do(step), rollout.Changed, target+" has digest sha256:"+object1.SHA256)
	b.wantFiles(ours)
	if o := b.Owner(target); o != "root:root" {
		t.Errorf("the file is %s's", o)
	}
	for _, r := range b.Requests() {
		if r.Become != "root" {
			t.Errorf("run as %q: %s", r.Become, r.Command)
		}
	}
	b.want(b.do(step), rollout.Unchanged, "") // called again after a crash
	if next := b.plan(present); next.Change.Action != rollout.NoOp {
		t.Errorf("a second plan has %s", next.Change.Action)
	}
	b.want(b.undo(step), rollout.Changed, target+" is gone")
	b.wantFiles(map[string]string{})
	b.want(b.undo(step), rollout.Unchanged, "")
}

func TestReplaceAndTakeBack(t *testing.T) {
	b := newBench(t)
	if err := b.WriteFile(target, old, 0o640); err != nil {
		t.Fatal(err)
	}
	before := b.files()
	step := b.plan(present)
	b.want(b.do(step), rollout.Changed, "")
	replaced := map[string]string{"/var/lib/fleetd/": "", "/var/lib/fleetd/bpf/": "", "/var/lib/fleetd/bpf/tcp_connect-" + digest(old) + ".o": "640 " + digest(old)}
	for k, v := range ours {
		replaced[k] = v
	}
	b.wantFiles(replaced)
	b.want(b.undo(step), rollout.Changed, "sha256:"+digest(old))
	b.wantFiles(before)
	b.want(b.undo(step), rollout.Unchanged, "")
}

func TestRemoveAndTakeBack(t *testing.T) {
	for name, content := range map[string][]byte{"this version": object1.Bytes, "an older one": old} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			if err := b.WriteFile(target, content, 0o644); err != nil {
				t.Fatal(err)
			}
			before := b.files()
			step := b.plan(absent)
			b.want(b.do(step), rollout.Changed, target+" is gone")
			if _, err := b.ReadFile(target); !os.IsNotExist(err) {
				t.Errorf("the file is still there: %v", err)
			}
			b.want(b.do(step), rollout.Unchanged, "")
			b.want(b.undo(step), rollout.Changed, "")
			b.wantFiles(before)
		})
	}
}

// TestCrash ends fleetd behind every call, before what it answered is written
// down: the step ends as it would have, and the undo as well.
func TestCrash(t *testing.T) {
	for _, c := range []struct {
		name string
		file []byte
		args rollout.Args
	}{
		{"create", nil, present}, {"replace", old, present}, {"remove ours", object1.Bytes, absent}, {"remove theirs", old, absent},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			if c.file != nil {
				if err := b.WriteFile(target, c.file, 0o640); err != nil {
					t.Fatal(err)
				}
			}
			before := b.files()
			step := b.plan(c.args)
			b.want(b.do(step), rollout.Changed, "")
			after := b.files()
			b.want(b.undo(step), rollout.Changed, "")
			b.wantFiles(before)
			for _, way := range []struct {
				call func(context.Context, rollout.Step) rollout.Outcome
				want map[string]string
			}{{b.module.Do, after}, {b.module.Undo, before}} {
				o := b.drive(func(ctx context.Context, s rollout.Step) rollout.Outcome {
					// An intention is never lost, or it would not be one; the
					// outcome of an effect may be.
					o := way.call(ctx, s)
					if o.Kind == rollout.Intends {
						return o
					}
					return way.call(ctx, s)
				}, step)
				b.want(o, rollout.Changed, "")
				b.wantFiles(way.want)
			}
		})
	}
}

// TestOneEffectPerCall counts what every call does to the node.
func TestOneEffectPerCall(t *testing.T) {
	b := newBench(t)
	if err := b.WriteFile(target, old, 0o640); err != nil {
		t.Fatal(err)
	}
	step := b.plan(present)
	var got []string
	b.want(b.drive(func(ctx context.Context, s rollout.Step) rollout.Outcome {
		before := b.files()
		o := b.module.Do(ctx, s)
		said := string(o.Kind)
		after := b.files()
		for name := range after {
			if !strings.HasSuffix(name, "/") && before[name] != after[name] {
				said += " " + path.Base(name)
			}
		}
		got = append(got, said)
		return o
	}, step), rollout.Changed, "")
	want := []string{"intends", "waiting tcp_connect-" + digest(old) + ".o", "waiting tcp_connect.o", "changed"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestReadsBack: what was written and does not read back as it should has failed.
func TestReadsBack(t *testing.T) {
	b := newBench(t)
	step := b.plan(present)
	o := b.drive(func(ctx context.Context, s rollout.Step) rollout.Outcome {
		o := b.module.Do(ctx, s)
		if o.Notes[target] == placed {
			if err := os.Chmod(b.Path(target), 0o600); err != nil {
				t.Error(err)
			}
		}
		return o
	}, step)
	b.want(o, rollout.Failed, "it was written, and reads back as sha256:"+object1.SHA256+" with mode 600, not")
}

func TestBack(t *testing.T) {
	m := module(t, nil)
	file := func(content []byte, mode string) node.File {
		return node.File{Exists: true, SHA256: digest(content), Mode: mode, Size: int64(len(content))}
	}
	keeps := "put back the " + target + " that was there, kept on the node as /var/lib/fleetd/bpf/tcp_connect-" + digest(old) + ".o"
	for _, c := range []struct {
		name string
		file node.File
		args rollout.Args
		back string
	}{
		{"create", node.File{}, present, "remove " + target},
		{"replace", file(old, "600"), present, keeps},
		{"mode", file(object1.Bytes, "600"), present, "give " + target + " mode 600 again"},
		{"remove ours", file(object1.Bytes, "644"), absent, "ship BPF object tcp_connect again"},
		{"remove theirs", file(old, "600"), absent, keeps},
		{"nothing", file(object1.Bytes, "644"), present, ""},
	} {
		change, _, err := m.Diff(host, state(t, elrepo, c.file), c.args)
		if err != nil || change.Back != c.back {
			t.Errorf("%s: %q (%v), want %q", c.name, change.Back, err, c.back)
		}
	}
}

func TestModeAndTakeBack(t *testing.T) {
	b := newBench(t)
	if err := b.WriteFile(target, object1.Bytes, 0o600); err != nil {
		t.Fatal(err)
	}
	before := b.files()
	step := b.plan(present)
	b.want(b.do(step), rollout.Changed, "")
	b.wantFiles(ours)
	b.want(b.undo(step), rollout.Changed, "")
	b.wantFiles(before)
}

// TestPutBackByHand: somebody has put the old file back, and tidied up.
func TestPutBackByHand(t *testing.T) {
	b := newBench(t)
	if err := b.WriteFile(target, old, 0o640); err != nil {
		t.Fatal(err)
	}
	before := b.files()
	step := b.plan(present)
	b.want(b.do(step), rollout.Changed, "")
	if err := errors.Join(b.WriteFile(target, old, 0o600), os.Chmod(b.Path(target), 0o600), os.RemoveAll(b.Path("/var/lib/fleetd"))); err != nil {
		t.Fatal(err)
	}
	b.want(b.undo(step), rollout.Changed, "")
	b.wantFiles(before)
}

func TestForeignFilesStay(t *testing.T) {
	b := newBench(t)
	neighbour := path.Join(Dir, "site.o")
	if err := b.WriteFile(neighbour, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := b.files()
	step := b.plan(present)
	b.want(b.do(step), rollout.Changed, "")
	b.want(b.undo(step), rollout.Changed, "")
	b.wantFiles(before)
}

func TestFileChangedSincePlan(t *testing.T) {
	b := newBench(t)
	step := b.plan(present)
	if err := b.WriteFile(target, []byte("somebody else's"), 0o644); err != nil {
		t.Fatal(err)
	}
	before := b.files()
	o := b.do(step)
	b.want(o, rollout.Failed, "cannot change "+target+" on worker-1: it is not what the plan was made for: sha256:"+digest([]byte("somebody else's"))+", not no file")
	if !strings.Contains(o.Hint, "make the plan again") {
		t.Errorf("hint %q", o.Hint)
	}
	b.want(b.undo(step), rollout.Failed, "cannot change")
	b.wantFiles(before)
}

func TestPlanOfAnotherFleetd(t *testing.T) {
	b := newBench(t)
	step := b.plan(present)
	step.Change.Data = []byte(strings.ReplaceAll(string(step.Change.Data), object1.SHA256, digest(old)))
	o := b.do(step)
	b.want(o, rollout.Failed, "the version with digest sha256:"+digest(old)+" is neither in this fleetd nor kept on the node as")
	b.wantFiles(map[string]string{})
	// A path that was tampered with reaches nothing outside our folder.
	step = b.plan(present)
	step.Change.Data = []byte(strings.ReplaceAll(string(step.Change.Data), target, Dir+"/../../../../../etc/passwd"))
	b.want(b.do(step), rollout.Failed, "it is not in "+Dir)
}

func TestNodeInTrouble(t *testing.T) {
	t.Run("sudo refuses", func(t *testing.T) {
		b := newBench(t, sshtest.Sudo(sshtest.SudoPolicy{Refuse: "centos is not in the sudoers file."}))
		b.want(b.do(b.plan(present)), rollout.Failed, "worker-1")
	})
	t.Run("down", func(t *testing.T) {
		b := newBench(t)
		step := b.plan(present)
		b.Close()
		b.want(b.do(step), rollout.Unreachable, "worker-1")
	})
	t.Run("a folder in its place", func(t *testing.T) {
		b := newBench(t)
		step := b.plan(present)
		if err := os.MkdirAll(b.Path(target), 0o755); err != nil {
			t.Fatal(err)
		}
		b.want(b.do(step), rollout.Failed, "cannot read "+target+" on worker-1: exit status 1: not a file")
	})
}
