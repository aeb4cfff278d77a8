package calico

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	"pgregory.net/rapid"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/cluster/clustertest"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// flipping is a flip whose objects are all as they should be: bpfEnabled is
// written, calico-node has rolled, kube-proxy still runs.
func flipping(t *testing.T, args rollout.Args) (fakes, rollout.Module, rollout.Change, *clustertest.Machine) {
	t.Helper()
	f := recorded(t, "iptables")
	endpointDone(t, f)
	args["linux_dataplane"] = "BPF"
	mod, c := planned(t, f, "fleetd.calico.dataplane", args)
	m := &clustertest.Machine{}
	m.Once(mod, rollout.Localhost, c)
	f.operate(t)
	return f, mod, c, m
}

// only one node shows something else than its FelixConfiguration.
func oneNode(says string) func(string) string {
	return func(host string) string {
		if strings.HasSuffix(host, "el-0002") {
			return says
		}
		return ""
	}
}

// Everything that the API server shows says BPF, and on one node Felix goes on
// without it: the flip is not done, and goes back by itself.
func TestFlipIsNotDoneWithoutEveryNode(t *testing.T) {
	for name, c := range map[string]struct{ says, why string }{
		"has not restarted": {felixOff, "Felix does not run in BPF mode: its process holds no BPF map"},
		"refused":           {felixRefused, `Felix goes on without BPF, it logged "x BPF dataplane mode enabled`},
		"dead":              {"notc\n", "calico-node -felix does not run"},
		"nothing attached":  {"felix 1@2 14\npinned cali_v4_nat_fe3\n", "attached to no interface"},
		"nothing pinned":    {"felix 1@2 14\nattached eth0\n", "no BPF map of Services is pinned"},
		"nothing to see":    {"felix 1@2 14\npinned cali_v4_nat_fe3\nnotc\n", "tc is not installed"},
		"probes only":       {"attached eth0\npinned cali_v4_nat_fe3\n", "does not run"},
	} {
		t.Run(name, func(t *testing.T) {
			f, mod, change, m := flipping(t, rollout.Args{"timeout": "1m"})
			f.ssh.says = oneNode(c.says)
			o := m.Once(mod, rollout.Localhost, change)
			if o.Kind != rollout.Waiting || !strings.Contains(o.Message, "1 of 2 nodes are not proven") || !strings.Contains(o.Message, "el-0002 (") || !strings.Contains(o.Message, c.why) {
				t.Fatalf("%+v", o)
			}
			m.Look = func(int) { f.operate(t) }
			o = m.Run(t, mod, rollout.Localhost, change)
			if o.Kind != rollout.Failed || !strings.Contains(o.Message, c.why) || !strings.Contains(o.Message, "taken back to Iptables") || m.Now < time.Minute {
				t.Errorf("after %s: %+v", m.Now, o)
			}
			if in := f.get(t, "Installation", "default"); installationFacts(in).DataPlane() != Iptables {
				t.Error("the data plane is still asked for")
			}
			if w := clustertest.Only(f.writes(), "daemonsets"); len(w) > 0 {
				t.Errorf("kube-proxy was touched: %q", w)
			}
		})
	}
}

func TestFlipThatIsToWaitHalts(t *testing.T) {
	f, mod, c, m := flipping(t, rollout.Args{"timeout": "1m", "on_failure": "wait"})
	f.ssh.gone = map[string]bool{"host-of-el-0001": true}
	o := m.Run(t, mod, rollout.Localhost, c)
	if o.Kind != rollout.Failed || !strings.Contains(o.Message, "el-0001 (it cannot be asked: cannot connect to host-of-el-0001") || !strings.Contains(o.Hint, `"linuxDataplane":"Iptables"`) {
		t.Errorf("%+v", o)
	}
	if n := len(clustertest.Only(f.writes(), "installations")); n != 1 {
		t.Errorf("%d writes", n)
	}
}

// Where kube-proxy is gone already nobody would serve Services after the way
// back: the flip stays, and says so.
func TestFlipIsNotTakenBackWithoutKubeProxy(t *testing.T) {
	f, mod, c, m := flipping(t, rollout.Args{"timeout": "1m"})
	f.mutate(t, "kube-system", "kube-proxy", func(ds *appsv1.DaemonSet) {
		ds.Spec.Template.Spec.NodeSelector = map[string]string{cluster.NonCalicoLabel: "true"}
	})
	f.ssh.says = oneNode(felixRefused)
	o := m.Run(t, mod, rollout.Localhost, c)
	if o.Kind != rollout.Failed || !strings.Contains(o.Hint, "kube-proxy is off") || len(clustertest.Only(f.writes(), "installations")) != 1 {
		t.Errorf("%+v %q", o, f.writes())
	}
}

// A Felix that restarts in the middle begins the watch anew.
func TestFlipIsWatched(t *testing.T) {
	f, mod, c, m := flipping(t, rollout.Args{})
	f.ssh.says = oneNode(felixOn)
	o := m.Once(mod, rollout.Localhost, c)
	if o.Kind != rollout.Waiting || !strings.Contains(o.Message, "watched for 20s") {
		t.Fatalf("%+v", o)
	}
	m.Now += 15 * time.Second
	f.ssh.says = oneNode(strings.Replace(felixOn, "4242@", "4300@", 1))
	m.Once(mod, rollout.Localhost, c)
	m.Now += 15 * time.Second
	if o = m.Once(mod, rollout.Localhost, c); o.Kind != rollout.Waiting {
		t.Errorf("%+v", o)
	}
	m.Now += 5 * time.Second
	if o = m.Once(mod, rollout.Localhost, c); o.Kind != rollout.Changed {
		t.Errorf("%+v", o)
	}
}

// A crash at any moment of the way back, with the notes of then, ends the same.
func TestRevertGoesOnAfterACrash(t *testing.T) {
	f, mod, c, m := flipping(t, rollout.Args{"timeout": "1m"})
	f.ssh.says = oneNode(felixRefused)
	m.Look = func(int) {
		if m.SoFar[reverting] != "" {
			f.operate(t)
			for k := range m.SoFar {
				if k != reverting { // all that Intend made durable
					delete(m.SoFar, k)
				}
			}
		}
	}
	o := m.Run(t, mod, rollout.Localhost, c)
	if o.Kind != rollout.Failed || !strings.Contains(o.Message, "taken back to Iptables") {
		t.Errorf("%+v", o)
	}
}

func TestKubeProxyWaitsForEveryNode(t *testing.T) {
	f := recorded(t, "bpf")
	f.mutate(t, "kube-system", "kube-proxy", func(ds *appsv1.DaemonSet) {
		delete(ds.Spec.Template.Spec.NodeSelector, cluster.NonCalicoLabel)
		ds.Status.DesiredNumberScheduled = 6
	})
	mod, c := planned(t, f, "fleetd.calico.kube_proxy", rollout.Args{"state": "disabled", "timeout": "1m"})
	f.ssh.says = oneNode(felixRefused)
	m := &clustertest.Machine{}
	if o := m.Once(mod, rollout.Localhost, c); o.Kind != rollout.Waiting || !strings.Contains(o.Message, "kube-proxy is untouched: 1 of 2 nodes") {
		t.Fatalf("%+v", o)
	}
	if o := m.Run(t, mod, rollout.Localhost, c); o.Kind != rollout.Failed || len(f.writes()) > 0 {
		t.Errorf("%+v %q", o, f.writes())
	}
	f.ssh.says = nil
	(&clustertest.Machine{}).Once(mod, rollout.Localhost, c)
	if w := clustertest.Only(f.writes(), "daemonsets"); len(w) != 1 {
		t.Errorf("%q", w)
	}
}

func TestVerifyAsksEveryNode(t *testing.T) {
	for want, says := range map[string]string{"BPF": felixRefused, "Iptables": "felix 1@2 0\nattached eth0\n"} {
		f := recorded(t, strings.ToLower(want))
		mod, c := planned(t, f, "fleetd.calico.verify", rollout.Args{"linux_dataplane": want, "timeout": "1m"})
		m := &clustertest.Machine{}
		f.ssh.says = oneNode(says)
		if o := m.Run(t, mod, rollout.Localhost, c); o.Kind != rollout.Failed || !strings.Contains(o.Message, "el-0002 (") {
			t.Errorf("%s: %+v", want, o)
		}
		f.ssh.says = nil
		if o := (&clustertest.Machine{}).Once(mod, rollout.Localhost, c); o.Kind != rollout.Unchanged {
			t.Errorf("%s: %+v", want, o)
		}
	}
}

// A Node that no host of the inventory is cannot be asked.
func TestNodeOutsideTheInventoryIsUnproven(t *testing.T) {
	f := recorded(t, "bpf")
	d := f.deps()
	delete(d.Nodes, "host-of-el-0002")
	p, err := d.prove(context.Background(), BPF)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"el-0002 (it cannot be asked: no host of the inventory is this node)"}, p.Unproven); diff != "" {
		t.Error(diff)
	}
	f.ssh.runs = 0
	if _, err := f.deps().prove(context.Background(), BPF); err != nil || f.ssh.runs != 2 {
		t.Errorf("%d round trips for 2 nodes, %v", f.ssh.runs, err)
	}
}

// Whatever a node prints, it is proven only with a process, a map in its hands, a
// pin and an attachment, all in its own words; and nothing is shown raw.
func TestProofNeedsAllOfIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.SampledFrom([]string{"felix 1@2 14", "felix 1@2 0", "felix", "felix 1@2 many", "pinned a", "attached eth0", "notc", "log Disabling BPF mode", "log \x1b[2J", "", "rubbish", " felix 1@2 3"})
		printed := rapid.SliceOf(word).Draw(t, "lines")
		has := func(prefix ...string) bool {
			return slices.ContainsFunc(printed, func(l string) bool {
				return slices.ContainsFunc(prefix, func(p string) bool { return strings.HasPrefix(strings.TrimSpace(l), p) })
			})
		}
		why := parseFelix(strings.Join(printed, "\n")).missing(BPF)
		if want := has("felix 1@2 14", "felix 1@2 3") && has("pinned") && has("attached"); (why == "") != want {
			t.Fatalf("%q: %q", printed, why)
		}
		if strings.ContainsAny(why, "\x1b") {
			t.Fatalf("shown raw: %q", why)
		}
	})
}

// The script itself, on trees as a node has them.
func TestFelixScript(t *testing.T) {
	root := t.TempDir()
	write := func(file, text string) {
		t.Helper()
		file = filepath.Join(root, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	link := func(file, to string) {
		t.Helper()
		file = filepath.Join(root, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.Symlink(to, file)); err != nil {
			t.Fatal(err)
		}
	}
	run := func() felixState {
		t.Helper()
		c := exec.Command("/bin/sh", "-c", felixScript)
		c.Env = os.Environ()
		for k := range felixEnv() {
			c.Env = append(c.Env, k+"="+filepath.Join(root, k))
		}
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return parseFelix(string(out))
	}
	if s := run(); s.Process != "" || s.Maps+len(s.Pinned)+len(s.Attached) > 0 || s.Log != "" {
		t.Errorf("an empty machine: %+v", s)
	}
	stat := "12 (calico-node) S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 12 0 98765 1 1\n"
	for _, p := range []string{"12", "13"} {
		write("proc/"+p+"/comm", "calico-node\n")
	}
	write("proc/14/comm", "grep\n")
	write("proc/14/cmdline", "grep\x00calico-node\x00-felix\x00x\x00")
	write("proc/14/stat", "14 (grep) S\n")
	write("proc/12/cmdline", "calico-node\x00-felix\x00")
	write("proc/12/stat", stat)
	write("proc/13/cmdline", "calico-node\x00-felix-ready\x00-bird-ready\x00") // a probe
	write("proc/13/stat", stat)
	link("proc/13/fd/3", "anon_inode:bpf-map")
	link("proc/12/fd/3", "anon_inode:bpf-prog")
	write("logs/calico-system_calico-node-x_1/calico-node/0.log", "1 BPF enabled, starting BPF endpoint manager and map manager.\n2 Disabling BPF mode.\n3 other\n")
	write("bpffs/tcx/cali0123_ingress", "")
	s := run()
	if s.Process != "12@98765" || s.Maps != 0 || len(s.Attached) > 0 || s.Log != "2 Disabling BPF mode." {
		t.Errorf("refused: %+v", s)
	}
	link("proc/12/fd/4", "anon_inode:bpf-map")
	link("proc/12/fd/5", "anon_inode:bpf-map")
	write("bpffs/tc/globals/cali_v4_nat_fe3", "")
	write("bpffs/tcx/ens5_ingress", "")
	s = run()
	if s.Maps != 2 || !slices.Equal(s.Pinned, []string{"cali_v4_nat_fe3"}) || !slices.Equal(s.Attached, []string{"ens5"}) || s.missing(BPF) != "" {
		t.Errorf("on: %+v", s)
	}
	// tc says what it has attached; one that is a stand-in here.
	if err := os.Remove(filepath.Join(root, "bpffs/tcx/ens5_ingress")); err != nil {
		t.Fatal(err)
	}
	write("sys/class/net/eth0/ifindex", "2")
	write("sys/class/net/cali77/ifindex", "3")
	write("bin/tc", "#!/bin/sh\necho 'filter protocol all pref 49152 bpf chain 0 handle 0x1 cali_tc_preambl:[24] direct-action not_in_hw id 24'\n")
	if err := os.Chmod(filepath.Join(root, "bin/tc"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Join(root, "bin")+":"+os.Getenv("PATH"))
	if s = run(); !slices.Equal(s.Attached, []string{"eth0"}) || s.NoTC {
		t.Errorf("by tc: %+v", s)
	}
}
