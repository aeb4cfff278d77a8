//go:build linux

package probe

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

const inNamespace = "FLEETD_PROBE_TEST_IN_NAMESPACE"

// Rules as kube-proxy writes them, real iptables, in a network namespace of their own:
// while they carry what is answered that is seen; while they are only left over, too;
// and when they are gone. What passes them by here is a rule of ours, not a data plane.
func TestRules(t *testing.T) {
	if os.Getenv(inNamespace) == "" {
		if os.Geteuid() != 0 {
			t.Skip("a network namespace takes root")
		}
		for _, need := range []string{"iptables", "iptables-save", "ip"} {
			if _, err := exec.LookPath(need); err != nil {
				t.Skipf("needs %s", need)
			}
		}
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		c := exec.Command(exe, "-test.run=^TestRules$", "-test.v")
		c.Env = append(os.Environ(), inNamespace+"=1")
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		out, err := c.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	do := func(line string) {
		t.Helper()
		if out, err := exec.Command("sh", "-ec", line).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
	}
	do("ip link set lo up; ip route add local 10.96.0.10 dev lo")
	s := serve(t)
	do(`iptables -t nat -N KUBE-SERVICES; iptables -t nat -N KUBE-SVC-DNS; iptables -t nat -A OUTPUT -j KUBE-SERVICES
		for p in udp tcp; do
			iptables -t nat -A KUBE-SERVICES -d 10.96.0.10/32 -p $p -m comment --comment "kube-system/kube-dns:dns cluster IP" -m $p --dport 53 -j KUBE-SVC-DNS
			iptables -t nat -A KUBE-SVC-DNS -p $p -j DNAT --to-destination 10.96.0.10:` + strconv.Itoa(s.dns) + `
		done`)
	m := newMachine(t, []string{"dash"})
	paths := []Path{
		{Name: "kube-system/kube-dns", Kind: ClusterIP, Protocol: DNSUDP, Address: "10.96.0.10", Port: 53},
		{Name: "kube-system/kube-dns", Kind: ClusterIP, Protocol: DNSTCP, Address: "10.96.0.10", Port: 53},
		{Name: "other/dns", Kind: ClusterIP, Protocol: DNSTCP, Address: "127.0.0.1", Port: s.dns},
	}
	m.run(t, Start(false, paths, 1))
	m.mark(t)
	rows := func() []Row {
		e := Judge([]Report{m.look(t, Look(false, false, 1))}, "", nil, false)
		if len(e.Paths) != len(paths) {
			t.Fatalf("%+v", e)
		}
		return e.Paths
	}
	for _, r := range rows() {
		ours := r.Name != "other/dns"
		if ours != (len(r.Carried) == 1) || ours != (r.Ruled == 1) || r.Counted != 1 {
			t.Errorf("carried by rules: %#v", r)
		}
	}

	// Another way answers, before the rules are met.
	do("iptables -t nat -I OUTPUT -d 10.96.0.10 -p tcp -j DNAT --to-destination 10.96.0.10:" + strconv.Itoa(s.dns))
	rows() // what was on its way
	for _, r := range rows() {
		if r.Protocol == DNSTCP && r.Name != "other/dns" && (len(r.Carried) > 0 || r.Ruled != 1) {
			t.Errorf("left over: %#v", r)
		}
	}
	do("iptables -t nat -F KUBE-SERVICES")
	for _, r := range rows() {
		if r.Ruled > 0 || len(r.Carried) > 0 {
			t.Errorf("gone: %#v", r)
		}
	}

	// kube-proxy's nftables mode counts nothing: then nothing is told.
	if _, err := exec.LookPath("nft"); err == nil {
		do("nft add table ip kube-proxy")
		for _, r := range rows() {
			if r.Counted > 0 || !strings.Contains(r.Name, "dns") {
				t.Errorf("nftables: %#v", r)
			}
		}
	}
}
