package view

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unicode"

	"github.com/fleetd/fleetd/pkg/rollout"
)

func plan(p rollout.Plan) []byte {
	var out bytes.Buffer
	Plan(&out, Style{}, &p)
	return out.Bytes()
}

// TestPlanOfAFleetInTrouble shows all that a plan warns of.
func TestPlanOfAFleetInTrouble(t *testing.T) {
	p := fleet()
	p.Down = map[string]string{"n3": "is NotReady", "worker04": "is NotReady", "worker05": "is NotReady", "n7": "is unreachable"}
	p.ControlPlane = rollout.ControlPlane{Hosts: []string{"m1", "m2", "m3"}, Members: []rollout.Member{{Name: "m1"}, {Name: "m2", Down: "does not answer"}, {Name: "m3"}}}
	if err := p.Seal(); err != nil {
		t.Fatal(err)
	}
	golden(t, "plan-trouble.txt", plan(p))
}

func TestPlanOfAnUndo(t *testing.T) {
	for name, p := range map[string]rollout.Plan{"plan-undo.txt": fleet(), "plan-undo-none.txt": {}} {
		undo, err := rollout.Reverse(runID, record(t, p, nil).play(1<<30, losing).run, nil, nil, rollout.Basis{Source: fleet().Source})
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, plan(undo))
	}
}

func TestControlPlane(t *testing.T) {
	disrupts := fleet()
	idle := rollout.Plan{Plays: []rollout.PlannedPlay{{Batches: [][]string{{"n3"}}}}}
	members := func(hosts ...string) rollout.ControlPlane {
		c := rollout.ControlPlane{Hosts: hosts}
		for _, h := range hosts {
			c.Members = append(c.Members, rollout.Member{Name: h})
		}
		return c
	}
	lost := members("n3", "n7", "worker01")
	lost.Members[1].Down = "does not answer"
	for _, c := range []struct {
		name string
		plan rollout.Plan
		cp   rollout.ControlPlane
		want string
	}{
		{"not known", disrupts, rollout.ControlPlane{}, ""},
		{"one", disrupts, members("n3"), "etcd has 1 member: while it is out of service the API server is away"},
		{"two", disrupts, members("n3", "n7"), "etcd has 2 members: while one is out of service the API server is away"},
		{"two, not touched", idle, members("n3", "n7"), ""},
		{"two, others touched", disrupts, members("m1", "m2"), ""},
		{"three", disrupts, members("n3", "n7", "worker01"), ""},
		{"three, one lost", idle, lost, "etcd: 1 of 3 members out of service (n7 does not answer), and 2 must serve"},
		{"only the hosts are known", disrupts, rollout.ControlPlane{Hosts: []string{"n3", "n7"}}, "the control plane has 2 hosts: while one is out of service the API server is away"},
	} {
		c.plan.ControlPlane = c.cp
		if got := controlPlane(&c.plan); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestDifferences(t *testing.T) {
	old, now := example(), example()
	s := now.Plays[1].Tasks[0].Steps[rollout.Localhost]
	s.Change.Fields[0].Before = "Nftables"
	delete(now.Plays[0].Tasks[0].Steps, "node1")
	riskier := now.Plays[0].Tasks[2].Steps["node2"]
	riskier.Change.Risks = []string{"a volume is lost"}
	now.Plays[0].Tasks[2].Steps["node2"] = riskier
	now.Plays[0].Tasks[1].Steps["node5"] = rollout.PlannedStep{Problem: &rollout.Problem{Message: "full"}}
	golden(t, "differences.txt", []byte(strings.Join(Differences(&old, &now), "\n")+"\n"))
	if got := Differences(&old, &old); len(got) != 1 || !strings.Contains(got[0], "order of the plays") {
		t.Errorf("no step differs: %q", got)
	}
}

// TestDifferencesAroundTheSteps: which machines, what the plan was made from, and
// what is out of service come first.
func TestDifferencesAroundTheSteps(t *testing.T) {
	old, now := example(), example()
	old.Bound = map[string]map[string]string{
		"node1": {"address": "10.0.0.1:22", "host_key": "SHA256:aaa", "machine_id": "m1"}, "node2": {"address": "10.0.0.2:22"},
		"node3": {"address": "10.0.0.3:22"}, "node5": {"host_key": "SHA256:eee"}, rollout.Localhost: {"cluster_uid": "c1"}}
	now.Bound = map[string]map[string]string{
		"node1": {"address": "10.0.0.9:22", "host_key": "SHA256:bbb", "machine_id": "m1"}, "node2": {"address": "10.0.0.2:22", "machine_id": "m2"},
		"node4": {"address": "10.0.0.4:22"}, "node5": {"host_key": "SHA256:eee"}, rollout.Localhost: {"cluster_uid": "c2"}}
	old.Source.Files = map[string]string{"inventory.yaml": "1", "playbooks/site.yml": "2", "old.yml": "3"}
	now.Source.Files = map[string]string{"inventory.yaml": "1", "playbooks/site.yml": "9", "new.yml": "4"}
	old.Down = map[string]string{"node2": "is unreachable", "node3": "is NotReady", "node6": "is NotReady"}
	now.Down = map[string]string{"node3": "is unreachable", "node6": "is NotReady", "node7": "NotReady"}
	old.ControlPlane = rollout.ControlPlane{Hosts: []string{"m1", "m2"}, Members: []rollout.Member{{Name: "m1"}, {Name: "m2"}, {Name: "m3"}}}
	now.ControlPlane = rollout.ControlPlane{Hosts: []string{"m1", "m2", "m4"}, Members: []rollout.Member{{Name: "m1"}, {Name: "m2", Down: "is unreachable"}, {Name: "m4"}}}
	delete(now.Plays[0].Tasks[0].Steps, "node1")
	golden(t, "differences-around.txt", []byte(strings.Join(Differences(&old, &now), "\n")+"\n"))
}

// TestProblems: hosts with the same problem stand together, though each one's words
// name it.
func TestProblems(t *testing.T) {
	var problems []rollout.HostProblem
	for _, h := range []string{"node1", "node2", "node3"} {
		problems = append(problems, rollout.HostProblem{Host: h, Problem: rollout.Problem{
			Message: "cannot change the kernel of " + h + ": /boot has 34 MB free", Hint: "on " + h + ": remove an old kernel\non " + h + ", try: df",
		}})
	}
	for i, h := range []string{"web1", "web10", "web2"} { // one name begins another
		problems = append(problems, rollout.HostProblem{Host: h, Problem: rollout.Problem{
			Message: fmt.Sprintf("cannot read the facts: cannot connect to %s: 10.0.0.%d:22 refuses connections", h, i), Hint: "is sshd running?",
		}})
	}
	problems = append(problems, rollout.HostProblem{Host: "web3", Problem: rollout.Problem{Message: "cannot read the facts: cannot connect to web3: 10.0.0.9:22 is silent"}})
	for i, h := range []string{"db1", "db2"} { // the key is the host's own, and the hint has its address
		problems = append(problems, rollout.HostProblem{Host: h, Problem: rollout.Problem{
			Message: fmt.Sprintf("cannot connect to %s: host key is not known: SHA256:nPFLCT3DTUJqF6Cb6tnD1B1O3ZAkL3kxsEMbQWHrS%d8", h, i), Hint: fmt.Sprintf("ssh-keyscan fd00::%d >> known_hosts", i),
		}})
	}
	problems = append(problems, rollout.HostProblem{Host: "node4", Problem: rollout.Problem{Message: "cannot install kernel-ml on node4: no"}})
	var b strings.Builder
	Problems(&b, Style{}, problems)
	const want = `  node[1:3] (3 hosts): cannot change the kernel: /boot has 34 MB free
      there: remove an old kernel
      there, try: df
  web[1:2],web10 (3 hosts): cannot read the facts: cannot connect to web1: 10.0.0.0:22 refuses connections
      is sshd running?
      the words are those of web1; the others' differ in names, addresses, sizes and keys alone
  web3: cannot read the facts: cannot connect to web3: 10.0.0.9:22 is silent
  db[1:2] (2 hosts): cannot connect to db1: host key is not known: SHA256:nPFLCT3DTUJqF6Cb6tnD1B1O3ZAkL3kxsEMbQWHrS08
      ssh-keyscan fd00::0 >> known_hosts
      the words are those of db1; the others' differ in names, addresses, sizes and keys alone
  node4: cannot install kernel-ml: no
`
	if b.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
}

// TestPlanOfSomebodyElse: a plan comes as a file, or from who proposes it, and what it
// says of where it comes from is shown, all of it, and writes over nothing.
func TestPlanOfSomebodyElse(t *testing.T) {
	bad := "x\x1b[2J\rn1"
	var out strings.Builder
	Plan(&out, Style{}, &rollout.Plan{Undoes: bad, Source: rollout.Source{
		Inventories: []string{bad + "1"}, Playbook: bad + "2", Limit: []string{bad + "3"}, Tags: []string{bad + "4"}, SkipTags: []string{bad + "5"},
		StartAtTask: bad + "6", ExtraVars: []string{"kernel_version=" + bad + "7"},
	}})
	got := out.String()
	if strings.ContainsFunc(got, func(r rune) bool { return r != '\n' && unicode.IsControl(r) }) {
		t.Errorf("%q", got)
	}
	hidden := `"x\x1b[2J\rn1`
	for _, want := range []string{
		"undo of run " + hidden + `"`, "inventory " + hidden + `1"`, "playbook " + hidden + `2"`, "limited to " + hidden + `3"`, "tagged " + hidden + `4"`,
		"tagged " + hidden + `5"`, "before " + hidden + `6"`, `with the variables "kernel_version=x\x1b[2J\rn17"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("it does not say %q:\n%s", want, got)
		}
	}
}
