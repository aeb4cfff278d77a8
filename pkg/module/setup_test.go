package module_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/pkg/ansibletest"
	"github.com/fleetd/fleetd/pkg/module"
	"github.com/fleetd/fleetd/pkg/playbook"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// gathered are the facts that a module tells of this machine.
func gathered(t *testing.T, name string, args rollout.Args) map[string]any {
	t.Helper()
	m := module.Modules(local{t.TempDir()})["ansible.builtin."+name]
	o := m.Do(t.Context(), step(t, m, args))
	var r struct {
		Facts map[string]any `json:"ansible_facts"`
	}
	if err := json.Unmarshal(o.Result, &r); err != nil || len(r.Facts) == 0 {
		t.Fatalf("%s: %+v, %v", name, o, err)
	}
	return r.Facts
}

// ansibles are the facts that Ansible tells of this machine.
func ansibles(t *testing.T, name string) map[string]any {
	t.Helper()
	ansibletest.Python(t)
	tool, err := exec.LookPath("ansible")
	if err != nil {
		t.Skip("ansible is not installed: apt-get install ansible-core")
	}
	cmd := exec.CommandContext(t.Context(), tool, "-i", "localhost,", "-c", "local", "localhost", "-m", name)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + t.TempDir(), "LC_ALL=C.UTF-8"}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Facts map[string]any `json:"ansible_facts"`
	}
	if err := json.Unmarshal(out[strings.IndexByte(string(out), '{'):], &r); err != nil {
		t.Fatal(err)
	}
	return r.Facts
}

// outputs is a host that prints, for a script with this word, these notes.
type outputs map[string]string

func (outputs) Forget(string) {}

func (o outputs) Run(_ context.Context, _ string, c sshexec.Command) (sshexec.Result, error) {
	var b strings.Builder
	b.WriteString("umask 0022\n")
	for name, text := range o {
		fmt.Fprintf(&b, "note %s %x\n", name, text)
	}
	return sshexec.Result{Stdout: []byte(b.String() + "looked\n")}, nil
}

func facts(t *testing.T, name string, o outputs, args rollout.Args) map[string]any {
	t.Helper()
	m := module.Modules(o)["ansible.builtin."+name]
	var r struct {
		Facts map[string]any `json:"ansible_facts"`
	}
	end := m.Do(t.Context(), step(t, m, args))
	if err := json.Unmarshal(end.Result, &r); err != nil {
		t.Fatalf("%+v, %v", end, err)
	}
	return r.Facts
}

// Distributions go by Ansible's names.
func TestDistributions(t *testing.T) {
	for _, c := range []struct{ release, redhat, tool, want string }{
		{"NAME=\"CentOS Linux\"\nVERSION=\"7 (Core)\"\nID=\"centos\"\nVERSION_ID=\"7\"", "CentOS Linux release 7.9.2009 (Core)\n", "yum", "CentOS 7.9 7 RedHat Core yum"},
		{"NAME=\"Rocky Linux\"\nVERSION=\"8.10 (Green Obsidian)\"\nID=\"rocky\"\nVERSION_ID=\"8.10\"", "", "dnf", "Rocky 8.10 8 RedHat Green Obsidian dnf"},
		{"NAME=\"Red Hat Enterprise Linux\"\nVERSION=\"9.4 (Plow)\"\nID=\"rhel\"\nVERSION_ID=\"9.4\"", "", "dnf", "RedHat 9.4 9 RedHat Plow dnf"},
		{"NAME=\"CentOS Stream\"\nVERSION=\"9\"\nID=\"centos\"\nVERSION_ID=\"9\"", "CentOS Stream release 9\n", "dnf", "CentOS 9 9 RedHat NA dnf"},
		{"NAME=\"AlmaLinux\"\nVERSION=\"10.0 (Purple Lion)\"\nID=\"almalinux\"\nVERSION_ID=\"10.0\"", "", "dnf", "AlmaLinux 10.0 10 RedHat Purple Lion dnf"},
		{"NAME=\"Other\"\nID=other\nVERSION_ID=1", "", "", "Other 1 1 Other NA <nil>"},
	} {
		f := facts(t, "setup", outputs{"kernel": "6", "release": c.release, "redhat": c.redhat, c.tool: "y"}, nil)
		got := fmt.Sprintln(f["ansible_distribution"], f["ansible_distribution_version"], f["ansible_distribution_major_version"], f["ansible_os_family"], f["ansible_distribution_release"], f["ansible_pkg_mgr"])
		if got != c.want+"\n" {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// Packages of rpm, two of one name among them.
func TestPackagesOfRPM(t *testing.T) {
	f := facts(t, "package_facts", outputs{"rpm": "kernel\t4.18.0\t553.el8\t(none)\tx86_64\nkernel\t4.18.0\t477.el8\t(none)\tx86_64\nbind\t9\t1\t32\tx86_64\ngpg-pubkey\t1\t2\t(none)\t(none)\n"}, nil)
	p := f["packages"].(map[string]any)
	if kernels := p["kernel"].([]any); len(kernels) != 2 || kernels[0].(map[string]any)["release"] != "553.el8" || kernels[0].(map[string]any)["epoch"] != nil {
		t.Errorf("kernels %v", p["kernel"])
	}
	if b := p["bind"].([]any)[0].(map[string]any); b["epoch"] != float64(32) || b["source"] != "rpm" {
		t.Errorf("bind %v", b)
	}
	if facts(t, "package_facts", outputs{}, nil) != nil || facts(t, "package_facts", outputs{"rpm": "x\n"}, nil) != nil {
		t.Error("what is no list of packages passes for one")
	}
}

// Services, as systemd of EL7 and later shows them.
func TestServices(t *testing.T) {
	f := facts(t, "service_facts", outputs{
		"init":  "systemd\n",
		"units": "sshd.service loaded active running OpenSSH server\nkdump.service loaded active exited Crash\n● bad.service loaded failed failed Bad\n● gone.service not-found inactive dead gone.service\ncrond.service loaded inactive dead Cron\n",
		"files": "sshd.service enabled enabled\nkdump.service enabled disabled\nbad.service disabled disabled\ncrond.service disabled\nold.service masked disabled\ngetty@.service enabled enabled\n",
	}, nil)["services"].(map[string]any)
	for name, want := range map[string]string{
		"sshd.service": "running enabled", "kdump.service": "stopped enabled", "bad.service": "stopped failed", "gone.service": "stopped not-found",
		"crond.service": "stopped disabled", "old.service": "inactive masked", "getty@.service": "unknown enabled",
	} {
		s, _ := f[name].(map[string]any)
		if got := fmt.Sprintf("%v %v", s["state"], s["status"]); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if facts(t, "service_facts", outputs{"init": "init\n"}, nil) != nil {
		t.Error("services without systemd")
	}
}

// What fleetd says of this machine is what Ansible says of it, and the compiler knows
// of each fact that it may come.
func TestFactsAreAnsibles(t *testing.T) {
	ours, theirs := gathered(t, "setup", nil), ansibles(t, "setup")
	known := playbook.Gathered("ansible.builtin.setup")
	moving := []string{"ansible_date_time", "ansible_loadavg", "ansible_memfree_mb", "ansible_swapfree_mb", "ansible_uptime_seconds", "ansible_default_ipv4",
		"ansible_fqdn"} // that is hostname -f, and Ansible asks Python
	if len(ours) < 40 {
		t.Errorf("%d facts", len(ours))
	}
	for name, v := range ours {
		if !slices.Contains(known, name) {
			t.Errorf("the compiler does not know of %s", name)
		}
		their, told := theirs[name]
		if list, ok := their.([]any); ok && (strings.Contains(name, "addresses") || strings.Contains(name, "interfaces")) {
			slices.SortFunc(list, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
			slices.SortFunc(v.([]any), func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
		}
		switch {
		case !told:
			t.Errorf("Ansible has no %s", name)
		case slices.Contains(moving, name):
			if a, ok := v.(map[string]any); ok {
				for k := range a {
					if _, has := their.(map[string]any)[k]; !has {
						t.Errorf("Ansible has no %s.%s", name, k)
					}
				}
			}
		default:
			if d := cmp.Diff(their, v); d != "" {
				t.Errorf("%s (-Ansible +fleetd)\n%s", name, d)
			}
		}
	}
	if got := gathered(t, "setup", rollout.Args{"filter": []any{"kernel*", "ansible_system"}}); len(got) != 3 {
		t.Errorf("filtered: %v", got)
	}
}

// The packages are Ansible's, but for where dpkg cannot tell that they come from.
func TestPackagesAreAnsibles(t *testing.T) {
	ours, theirs := gathered(t, "package_facts", nil)["packages"].(map[string]any), ansibles(t, "package_facts")["packages"].(map[string]any)
	plain := func(v any) any {
		list, _ := v.([]any)
		for _, p := range list {
			delete(p.(map[string]any), "origin")
			delete(p.(map[string]any), "category") // an archive may have another than the package
		}
		return list
	}
	for name, v := range theirs {
		if d := cmp.Diff(plain(v), plain(ours[name])); d != "" && !strings.Contains(name, ":") {
			t.Errorf("%s (-Ansible +fleetd)\n%s", name, d)
		}
	}
}
