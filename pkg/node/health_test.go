package node

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// TestHealthScript runs the script with stand-ins for systemctl and ip, which print
// what those of EL7 and EL9 do, and with network interfaces of its own.
func TestHealthScript(t *testing.T) {
	sys := t.TempDir()
	for file, content := range map[string]string{
		"eth0/uevent": "INTERFACE=eth0\n", "eth0/operstate": "up\n", "eth0/device/vendor": "",
		"eth1/uevent": "INTERFACE=eth1\n", "eth1/operstate": "down\n", "eth1/device/vendor": "",
		"ens1f0v3/uevent": "INTERFACE=ens1f0v3\n", "ens1f0v3/operstate": "up\n", "ens1f0v3/device/physfn/vendor": "",
		"ib0/uevent": "INTERFACE=ib0\n", "ib0/operstate": "unknown\n", "ib0/device/vendor": "",
		"bond0/uevent": "DEVTYPE=bond\n", "bond0/operstate": "up\n", "bond0.7/uevent": "DEVTYPE=vlan\n", "bond0.7/operstate": "up\n",
		"vxlan.calico/uevent": "DEVTYPE=vxlan\n", "cni0/uevent": "DEVTYPE=bridge\n", "veth1/uevent": "INTERFACE=veth1\n", "lo/uevent": "INTERFACE=lo\n",
	} {
		if err := os.MkdirAll(filepath.Join(sys, filepath.Dir(file)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(sys, file), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"bond0/lower_eth0": "../eth0", "bond0.7/lower_bond0": "../bond0", "vxlan.calico/lower_eth0": "../eth0", "cni0/lower_veth1": "../veth1"} {
		if err := os.Symlink(to, filepath.Join(sys, link)); err != nil {
			t.Fatal(err)
		}
	}
	const systemctl = `case "$*" in
*--state=failed*) echo "● kdump.service      loaded failed failed Crash recovery kernel arming"; echo "  nfs.mount loaded failed failed NFS";;
*--state=activating*) echo "  fstrim.service loaded activating start start Discard unused blocks"; echo "data.mount loaded activating mounting Data";;
"show -p Id -p TriggeredBy fstrim.service data.mount") printf 'Id=fstrim.service\nTriggeredBy=fstrim.timer\n\nId=data.mount\nTriggeredBy=\n';;
*MainPID*) printf 'MainPID=812\nId=kubelet.service\nActiveState=active\n\nMainPID=0\nId=crio.service\nActiveState=inactive\n\nId=containerd.service\nActiveState=active\nMainPID=611\n';;
*) echo "systemctl does not know: $*" >&2; exit 9;;
esac`
	const ip = `case "$*" in
"-o addr show scope global") cat <<'IP'
2: eth0    inet 10.0.0.5/24 brd 10.0.0.255 scope global noprefixroute eth0\       valid_lft forever preferred_lft forever
2: eth0    inet 10.0.0.9/24 brd 10.0.0.255 scope global secondary eth0\       valid_lft forever preferred_lft forever
2: eth0    inet 10.0.0.100/32 scope global eth0\       valid_lft forever preferred_lft forever
2: eth0    inet 172.16.0.3/20 scope global proto keepalived eth0\       valid_lft forever preferred_lft forever
2: eth0    inet6 2001:db8::5/64 scope global dynamic mngtmpaddr noprefixroute \       valid_lft 86389sec preferred_lft 14389sec
2: eth0    inet6 2001:db8::f00/64 scope global temporary dynamic \       valid_lft 86389sec preferred_lft 14389sec
6: bond0.7@bond0    inet 10.7.0.5/32 brd 10.7.0.5 scope global dynamic bond0.7\       valid_lft 3000sec preferred_lft 3000sec
7: vxlan.calico    inet 10.244.1.0/32 scope global vxlan.calico\       valid_lft forever preferred_lft forever
8: cni0    inet 10.88.0.1/16 brd 10.88.255.255 scope global cni0\       valid_lft forever preferred_lft forever
IP
;;
"-o route show default") echo "default via 10.0.0.1 dev eth0 proto dhcp src 10.0.0.5 metric 100 ";;
"-o -6 route show default") echo "default via fe80::1 dev eth0 proto ra metric 1024 expires 1786sec hoplimit 64 pref medium";;
esac`
	want := Health{
		Failed: []string{"kdump.service", "nfs.mount"}, Starting: []string{"data.mount"}, Links: []string{"eth0", "ib0"},
		Addresses: []string{"bond0.7 10.7.0.5/32", "eth0 10.0.0.5/24", "eth0 2001:db8::5/64"},
		Routes:    []string{"default dev eth0", "default via 10.0.0.1 dev eth0"},
		Services:  map[string]string{"containerd.service": "611", "kubelet.service": "812"},
	}
	for name, shell := range shells(t) {
		bin := t.TempDir()
		tool(t, bin, "systemctl", systemctl)
		tool(t, bin, "ip", ip)
		if name == "busybox" {
			continue // it takes its own ip before the one in PATH
		}
		out := scriptOutput(t, shell, bin, bin, strings.ReplaceAll(healthScript, "/sys/class/net", sys))
		if diff := cmp.Diff(want, ParseHealth(string(out))); diff != "" {
			t.Errorf("%s (-want +got):\n%s\n%s", name, diff, out)
		}
	}
}

// TestHealthWrittenDown: what is written down is what is read, also of a node that has
// nothing to tell.
func TestHealthWrittenDown(t *testing.T) {
	word := rapid.StringMatching(`[a-z0-9\\@:./ ]{0,8}[a-z0-9]`)
	words := rapid.Map(rapid.SliceOfNDistinct(word, 0, 3, rapid.ID[string]), func(w []string) []string { slices.Sort(w); return w })
	rapid.Check(t, func(rt *rapid.T) {
		h := Health{
			Failed: words.Draw(rt, "failed"), Starting: words.Draw(rt, "starting"), Links: words.Draw(rt, "links"),
			Addresses: words.Draw(rt, "addresses"), Routes: words.Draw(rt, "routes"),
			Services: rapid.MapOf(rapid.StringMatching(`[a-z-]{1,8}\.service`), rapid.StringMatching(`[0-9]{1,5}`)).Draw(rt, "services"),
		}
		trial := Trial{Run: "b2", From: "4.18", To: "6.1", Before: strings.TrimSpace(h.String())}
		got := parseTrial(trial.String() + "\n")
		if diff := cmp.Diff(trial, got); diff != "" {
			rt.Fatalf("the record (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(h, ParseHealth(got.Before), cmpopts.EquateEmpty()); diff != "" {
			rt.Fatalf("the health (-want +got):\n%s", diff)
		}
	})
}

// TestHealthScriptWithoutTools: what a node has no tool for is absent, and no error.
func TestHealthScriptWithoutTools(t *testing.T) {
	for name, shell := range shells(t) {
		bin := t.TempDir()
		tool(t, bin, "systemctl", "exit 1")
		tool(t, bin, "ip", "exit 1")
		out := scriptOutput(t, shell, bin, bin, strings.ReplaceAll(healthScript, "/sys/class/net", bin+"/none"))
		if h := ParseHealth(string(out)); len(h.Failed)+len(h.Starting)+len(h.Links)+len(h.Addresses)+len(h.Services) > 0 && name != "busybox" {
			t.Errorf("%s: %+v", name, h)
		}
	}
}
