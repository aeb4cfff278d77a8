//go:build lab

package integration

import (
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fleetd/fleetd/bpf"
	"github.com/fleetd/fleetd/integration/lab/controlplane"
	"github.com/fleetd/fleetd/integration/lab/fleet"
	"github.com/fleetd/fleetd/integration/lab/nodes"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// TestEndToEnd does the whole job once, for real: one control-plane machine and
// two workers of two distributions move to kernel-ml and the cluster to eBPF,
// after everything that can go wrong went wrong; then it is taken back.
func TestEndToEnd(t *testing.T) {
	b := startFleet(t, nodes.NodeConfig{Flavour: nodes.EL7}, nodes.NodeConfig{Flavour: nodes.EL7}, nodes.NodeConfig{Flavour: nodes.EL8})
	b.inTurn([]step{
		{"plan writes nothing", planWritesNothing},
		{"hosts that fail", hostsThatFail},
		{"a kernel that panics", kernelThatPanics},
		{"apply", applyAll},
		{"apply again", applyAgain},
		{"a plan whose time is over", stalePlan},
		{"compliance", complianceReport},
		{"the way back", wayBack},
		{"a node without BPF", nodeWithoutBPF},
	})
}

// writesNothing calls a verb of which neither a node nor the API server may have
// anything left.
func writesNothing(t *testing.T, b *bastion, verb string, call func()) {
	t.Helper()
	// Let what boot left behind settle: only files newer than the mark count.
	for i := range b.Nodes.Nodes() {
		b.on(i+1, "touch /run/mark; sleep 1.1")
	}
	before, err := b.ControlPlane.Writes(controlplane.AdminUser)
	if err != nil {
		t.Fatal(err)
	}
	call()
	for i := range b.Nodes.Nodes() {
		// sshd's and the journal's own traces of a login are no doing of fleetd's,
		// and rpm maps a shared-memory file to read its database. dnf opens its history
		// to write, also where it is only asked.
		out := b.on(i+1, "find / -xdev -newer /run/mark -type f -not -path '/var/log/*' -not -path '/var/lib/systemd/*' -not -path '/proc/*' -not -path '/sys/*' -not -path '/run/*' -not -name rpmdb.sqlite-shm -not -path '/var/lib/dnf/history.sqlite*'")
		if out != "" {
			t.Errorf("%s wrote on %s:\n%s", verb, b.Nodes.Node(i+1).Name, out)
		}
	}
	after, err := b.ControlPlane.Writes(controlplane.AdminUser)
	if err != nil {
		t.Fatal(err)
	}
	if len(after) != len(before) {
		t.Errorf("%s wrote to the API server: %+v", verb, after[len(before):])
	}
}

// planWritesNothing makes a plan and looks for anything that it wrote.
func planWritesNothing(t *testing.T, b *bastion) {
	var r result
	writesNothing(t, b, "plan", func() { r = plans(b) })
	for i := range b.Nodes.Nodes() {
		n := b.Nodes.Node(i + 1)
		for _, text := range []string{n.Name, n.Kernels.Base + " → " + n.Kernels.ML} {
			if !strings.Contains(r.stdout, text) {
				t.Errorf("the plan does not say %q", text)
			}
		}
	}
	samePlanAgain(t, b)
}

func plans(b *bastion) result {
	return b.want(2, []string{
		"install kernel-ml-6.1.",
		"linuxDataplane", "Iptables → BPF",
		"kubernetes-services-endpoint",
		"kube-proxy",
		"DSR",
		"tcp_connect",
	}, "plan", "inventory.yaml", "--out", "change.plan")
}

func samePlanAgain(t *testing.T, b *bastion) {
	raw, err := os.ReadFile(filepath.Join(b.Dir, "change.plan"))
	if err != nil {
		t.Fatal(err)
	}
	saved, err := rollout.ReadPlan(raw)
	if err != nil {
		t.Fatal(err)
	}
	shown := b.run("plan", "inventory.yaml", "-o", "json")
	var again rollout.Plan
	if err := json.Unmarshal([]byte(shown.stdout), &again); err != nil {
		t.Fatal(err)
	}
	if saved.Digest != again.Digest {
		t.Error("two plans of one state differ")
	}
}

// kernelsOnly is a playbook of one batch that stops short of a reboot.
const kernelsOnly = `
- name: Kernel packages
  hosts: all
  strategy: free
  max_fail_percentage: 0
  become: true
  tasks:
    - name: Node is fit for the change
      fleetd.kernel.preflight: {name: kernel-ml, enablerepo: elrepo-kernel}
    - name: Kernel package is installed
      fleetd.kernel.package: {name: kernel-ml, version: latest, enablerepo: elrepo-kernel}
`

// hostsThatFail breaks machines in the ways that machines break: each failure
// is named, the other host of the batch finishes, the run halts, nothing hangs.
func hostsThatFail(t *testing.T, b *bastion) {
	kernels := b.file("kernels-only.yml", kernelsOnly)
	stranger := filepath.Join(b.Dir, "known_hosts")
	raw, err := os.ReadFile(b.Nodes.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	key := func(i int) string { return strings.Fields(b.Nodes.Node(i).HostKey)[1] }
	if err := os.WriteFile(stranger, []byte(strings.ReplaceAll(string(raw), key(2), key(1))), 0o600); err != nil {
		t.Fatal(err)
	}
	// The machines of the workers, under other names: a changed host key, a
	// sudo password that is wrong, nobody there.
	inv := b.variant("failing.yaml", func(host map[string]map[string]any) {
		as := func(machine string, change map[string]any) map[string]any {
			vars := maps.Clone(host[machine])
			maps.Copy(vars, change)
			return vars
		}
		host["stranger"] = as("node2", map[string]any{"ansible_ssh_common_args": "-o UserKnownHostsFile=" + stranger})
		host["nosudo"] = as("node3", map[string]any{"ansible_user": "ops", "ansible_become_password": "not the password"})
		host["nobody"] = as("node2", map[string]any{"ansible_port": 2, "ansible_timeout": 5})
	})
	// The workers themselves: a full /boot, and a repository that does not answer.
	if err := b.Nodes.FillDisk(t.Context(), 2, "/boot", 512); err != nil {
		t.Fatal(err)
	}
	if err := b.Nodes.SetMirror(3, nodes.MirrorHang); err != nil {
		t.Fatal(err)
	}
	r := b.want(3, []string{
		"cannot connect to stranger: host key has changed", "cannot become root on nosudo: sudo: wrong password", "cannot connect to nobody",
		"unreachable", "/boot", "elrepo-kernel", "Next: fleetd runs show",
	}, "apply", inv, "--playbook", kernels, "--yes")
	if strings.Contains(r.String(), "not the password") {
		t.Error("the password was shown")
	}
	halted(t, b, []string{"nobody", "node2", "node3", "nosudo", "stranger"}, "node1")
	b.on(1, "rpm -qa 'kernel-ml*' | xargs -r yum -y -q remove")
	if err := b.Nodes.FreeDisk(t.Context(), 2, "/boot"); err != nil {
		t.Fatal(err)
	}
	if err := b.Nodes.StartMirror(); err != nil {
		t.Fatal(err)
	}
}

// halted checks that the last run lost the hosts and that the others finished
// what they had to do.
func halted(t *testing.T, b *bastion, lost []string, finished ...string) {
	t.Helper()
	run, _ := b.lastRun()
	if run.Status != rollout.Halted || !slices.Equal(slices.Sorted(slices.Values(run.LostHosts())), lost) {
		t.Errorf("the run is %s, lost %v; want halted, lost %v", run.Status, run.LostHosts(), lost)
	}
	run.Plan.Each(func(id rollout.StepID, s rollout.PlannedStep) bool {
		if slices.Contains(finished, id.Host) && s.Change.Action != rollout.NoOp {
			if st := run.Step(id); st == nil || !st.Over() || st.Outcome.Bad() {
				t.Errorf("%s did not finish %q", id.Host, run.Plan.Task(id).Name)
			}
		}
		return true
	})
}

// kernelThatPanics gives the first worker a kernel that panics at boot.
func kernelThatPanics(t *testing.T, b *bastion) {
	n := b.Nodes.Node(2)
	if err := b.Nodes.PanicOn(t.Context(), 2, n.Kernels.ML); err != nil {
		t.Fatal(err)
	}
	boot := b.on(3, "cat /proc/sys/kernel/random/boot_id")
	b.want(3, []string{"node2", n.Kernels.Base, "Halted", "Next: fleetd runs show", "fleetd apply inventory.yaml"}, "apply", "inventory.yaml", "--yes")
	halted(t, b, []string{"node2"})
	if got := b.on(2, "uname -r"); got != n.Kernels.Base {
		t.Errorf("node2 runs %s, want its old kernel", got)
	}
	if b.on(3, "cat /proc/sys/kernel/random/boot_id") != boot {
		t.Error("node3 was rebooted although the batch before it failed")
	}
	if console, err := b.Nodes.Console(2); err != nil || !strings.Contains(console, "Kernel panic") {
		t.Errorf("the console of node2 shows no panic (%v): the test did not test", err)
	}
	if node := b.node(t, "node2"); !node.Spec.Unschedulable {
		t.Error("node2 takes work although its change failed")
	}
	// The engineer mends it: the broken kernel goes.
	if err := b.Nodes.PanicOn(t.Context(), 2, ""); err != nil {
		t.Fatal(err)
	}
	b.on(2, "rpm -qa 'kernel-ml*' | xargs yum -y -q remove")
	b.want(1, []string{"failed its trial there at", "retry_failed_kernels=true"}, "plan", "inventory.yaml")
	b.on(2, "rm /var/lib/fleetd/failed-trials") // this build of the version is another one
}

func applyAll(t *testing.T, b *bastion) {
	started := time.Now()
	b.want(2, nil, "plan", "inventory.yaml", "--out", "reviewed.plan")
	// The bastion dies while the first worker reboots.
	b.killAt(func(e rollout.Event) bool {
		return e.Type == rollout.StepProgress && strings.HasPrefix(e.Text, "node2 reboots into")
	}, "apply", "reviewed.plan")
	// Its run has left a node out of service: no other bastion may begin one.
	dead := b.runs()[0]
	if dead.Status != rollout.Interrupted {
		t.Errorf("the run of the dead bastion shows as %s", dead.Status)
	}
	b.want(1, []string{"cannot take the cluster: run " + dead.ID, "fleetd unlock " + dead.ID}, "apply", "reviewed.plan", "--state", "elsewhere")
	b.want(1, []string{dead.ID}, "unlock", "20200101-000000-0000", "--kubeconfig", b.ControlPlane.Kubeconfig)
	b.want(0, []string{"Done"}, "resume")
	t.Logf("plan and apply took %.0f s", time.Since(started).Seconds())

	object, err := bpf.Lookup(bpf.TCPConnect)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b.Nodes.Nodes() {
		n := b.Nodes.Node(i + 1)
		if got := b.on(i+1, "uname -r"); got != n.Kernels.ML {
			t.Errorf("%s runs %s, want %s", n.Name, got, n.Kernels.ML)
		}
		if got := b.on(i+1, "grubby --default-kernel"); got != "/boot/vmlinuz-"+n.Kernels.ML {
			t.Errorf("%s boots %s by default", n.Name, got)
		}
		if got := b.on(i+1, "sha256sum < "+object.Path()); !strings.HasPrefix(got, object.SHA256) {
			t.Errorf("%s has another object: %s", n.Name, got)
		}
		if node := b.node(t, n.Name); node.Spec.Unschedulable {
			t.Errorf("%s is still cordoned", n.Name)
		}
	}
	b.wantCluster(t, cluster{dataplane: "BPF", bpfEnabled: true, kubeProxy: 0, mode: "DSR", endpoint: true})

	// The lab has no pods that answer: the page says so, and nothing is left that asks.
	b.want(0, []string{"done, no evidence of Services", "| The cluster is on eBPF | unchanged |", "did not answer before"}, "runs", "evidence")
	for i := range b.Nodes.Nodes() {
		if got := b.on(i+1, "ls /run"); strings.Contains(got, "fleetd-probe") {
			t.Errorf("%s has probes left: %s", b.Nodes.Node(i+1).Name, got)
		}
	}

	run, events := b.lastRun()
	own, wall := ownShare(events)
	t.Logf("fleetd's own part: %.2f s of %.1f s (%.2f %%)", own.Seconds(), wall.Seconds(), 100*own.Seconds()/wall.Seconds())
	if own.Seconds() > 0.02*wall.Seconds() {
		t.Errorf("fleetd's own part is over 2 %%")
	}
	// Every command of the article has its counterpart in the journal.
	for _, want := range []string{
		"yum --enablerepo=elrepo-kernel install -y kernel-ml-", "ssh grubby --info=ALL", "ssh grubby --set-default", "ssh grubby --default-kernel", "ssh uname",
		"reboot ", "kubernetes-services-endpoint", `"non-calico":"true"`, `"linuxDataplane":"BPF"`, `"hostPorts":null`, `"bpfExternalServiceMode":"DSR"`, "upload /usr/local/lib/fleetd/bpf/",
	} {
		if !slices.ContainsFunc(events, func(e rollout.Event) bool {
			return e.Operation != nil && strings.Contains(e.Operation.Kind+" "+e.Operation.Text, want)
		}) {
			t.Errorf("the journal has no operation %q", want)
		}
	}
	reboots := map[string]int{}
	for _, e := range events {
		if e.Operation != nil && strings.Contains(e.Operation.Text, "init 6") {
			reboots[e.Operation.Host]++
		}
	}
	if want := map[string]int{"node1": 1, "node2": 1, "node3": 1}; !maps.Equal(reboots, want) {
		t.Errorf("reboots %v, want %v", reboots, want)
	}
	if run.Status != rollout.Done {
		t.Errorf("the run is %s", run.Status)
	}
}

// ownShare is the time of a run in which neither a node, the cluster nor the
// engineer was being waited for, and its whole time.
func ownShare(events []rollout.Event) (own, wall time.Duration) {
	type span struct{ from, to time.Time }
	var busy []span
	waiting := map[rollout.StepID]time.Time{}
	for i, e := range events {
		switch {
		case e.Type == rollout.RunResumed:
			busy = append(busy, span{events[i-1].At, e.At})
		case e.Operation != nil:
			busy = append(busy, span{e.Operation.Started, e.Operation.Started.Add(e.Operation.Took)})
		case e.Type == rollout.StepEnded && !e.Outcome.Final():
			waiting[*e.Step] = e.At
		case e.Type == rollout.StepStarted && !waiting[*e.Step].IsZero():
			busy = append(busy, span{waiting[*e.Step], e.At})
		}
	}
	slices.SortFunc(busy, func(a, b span) int { return a.from.Compare(b.from) })
	at := events[0].At
	end := events[len(events)-1].At
	for _, s := range busy {
		if s.from.After(at) {
			own += s.from.Sub(at)
		}
		if s.to.After(at) {
			at = s.to
		}
	}
	if end.After(at) {
		own += end.Sub(at)
	}
	return own, end.Sub(events[0].At)
}

func applyAgain(t *testing.T, b *bastion) {
	before := map[int]string{}
	for i := range b.Nodes.Nodes() {
		before[i] = b.on(i+1, "cat /proc/sys/kernel/random/boot_id")
	}
	b.want(0, []string{"No changes."}, "apply", "inventory.yaml", "--yes")
	b.want(0, []string{"No changes."}, "plan", "inventory.yaml")
	for i := range b.Nodes.Nodes() {
		if b.on(i+1, "cat /proc/sys/kernel/random/boot_id") != before[i] {
			t.Errorf("%s was rebooted by an apply that had nothing to do", b.Nodes.Node(i+1).Name)
		}
	}
}

func stalePlan(t *testing.T, b *bastion) {
	b.want(1, []string{"no longer as it was", "nothing was changed", "Next: fleetd plan"}, "apply", "reviewed.plan")
}

func complianceReport(t *testing.T, b *bastion) {
	writesNothing(t, b, "compliance", func() {
		b.want(0, []string{"Compliant: 4 compliant"}, "compliance", "inventory.yaml", "-e", "kernel_minimum=5.10")
	})
	b.want(2, []string{"kernel-minimum", "should be >= 6.6"}, "compliance", "inventory.yaml", "-e", "kernel_minimum=6.6")
	object, err := bpf.Lookup(bpf.TCPConnect)
	if err != nil {
		t.Fatal(err)
	}
	b.on(3, "rm "+object.Path())
	b.want(2, []string{"node3", "bpf-object"}, "compliance", "inventory.yaml")
	r := b.want(2, nil, "compliance", "inventory.yaml", "-o", "json")
	var report struct {
		Schema, Status string
		Hosts          []struct{ Name, Status string }
	}
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		t.Fatal(err)
	}
	if report.Schema != "fleetd.io/compliance/v2" || report.Status != "drift" || len(report.Hosts) != 4 {
		t.Errorf("report %+v", report)
	}
	shipAgain(t, b)
}

// shipAgain brings the object back as a user whose sudo password is in a vault:
// the password must not be found in anything that the run leaves behind.
func shipAgain(t *testing.T, b *bastion) {
	key := b.file("vault-key", "the vault's own password\n")
	vault := exec.CommandContext(t.Context(), "ansible-vault", "encrypt_string", "--vault-password-file", key, "--name", "vault_become", nodes.OpsPassword)
	secret, err := vault.Output()
	if err != nil {
		t.Fatalf("ansible-vault: %v", err)
	}
	secrets := b.file("secrets.yml", string(secret))
	inv := b.variant("ops.yaml", func(host map[string]map[string]any) {
		host["node3"]["ansible_user"] = "ops"
		host["node3"]["ansible_become_password"] = "{{ vault_become }}"
	})
	r := b.want(0, []string{"node3", "BPF objects are there: changed"}, "apply", inv, "--yes", "-e", "@"+secrets, "--vault-password-file", key)
	show := b.run("runs", "show", "-o", "json")
	if strings.Contains(r.String()+show.String(), nodes.OpsPassword) {
		t.Error("the password was shown")
	}
	if err := filepath.WalkDir(b.StateDir(), func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(p)
		if strings.Contains(string(raw), nodes.OpsPassword) {
			t.Errorf("the password is in %s", p)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func wayBack(t *testing.T, b *bastion) {
	// The bastion dies while the data plane changes.
	b.killAt(func(e rollout.Event) bool {
		return e.Operation != nil && strings.Contains(e.Operation.Text, `"linuxDataplane":"Iptables"`)
	}, "apply", "inventory.yaml", "--playbook", disableBPF, "--yes")
	b.want(0, []string{"Done"}, "resume")
	b.wantCluster(t, cluster{dataplane: "Iptables", kubeProxy: 3, mode: "Tunnel", endpoint: true})
	b.want(0, []string{"No changes."}, "apply", "inventory.yaml", "--playbook", disableBPF, "--yes")
	b.want(2, []string{"data-plane"}, "compliance", "inventory.yaml")
}

// flipOnly asks for the data plane, and is not patient.
const flipOnly = `
- name: Calico moves to eBPF
  hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - fleetd.calico.preflight: {linux_dataplane: BPF}
    - fleetd.calico.dataplane: {linux_dataplane: BPF, timeout: 30s}
    - fleetd.calico.kube_proxy: {state: disabled}
`

// nodeWithoutBPF flips a cluster in which Felix of one node goes on without BPF:
// the node is named, kube-proxy stays, and the data plane goes back by itself.
func nodeWithoutBPF(t *testing.T, b *bastion) { b.flipRefused(t, "30s", 3) }

// flipRefused is that on so many nodes, with so much patience.
func (b *bastion) flipRefused(t *testing.T, patience string, nodes int32) {
	b.fault(2, fleet.NoBPF)
	book := strings.ReplaceAll(flipOnly, "30s", patience)
	b.want(3, []string{"node2 (Felix goes on without BPF", "the data plane was taken back to Iptables"},
		"apply", "inventory.yaml", "--playbook", b.file("flip-only.yml", book), "--yes")
	b.mend(2)
	b.wantCluster(t, cluster{dataplane: "Iptables", kubeProxy: nodes, mode: "Tunnel", endpoint: true})
}
