package module

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// factsOf are the facts that the notes of setup.sh tell, under Ansible's names. What
// a node does not tell is not among them.
func factsOf(n map[string]string) map[string]any {
	f := map[string]any{"module_setup": true, "ansible_system": "Linux"}
	line := func(name string) string {
		first, _, _ := strings.Cut(n[name], "\n")
		return strings.TrimSpace(first)
	}
	set := func(fact, name string) {
		if v := line(name); v != "" {
			f["ansible_"+fact] = v
		}
	}
	number := func(fact, name string) {
		if v, err := strconv.ParseInt(line(name), 10, 64); err == nil {
			f["ansible_"+fact] = v
		}
	}
	set("architecture", "machine")
	set("machine", "machine")
	set("kernel", "kernel")
	set("kernel_version", "version")
	set("nodename", "node")
	set("fqdn", "fqdn")
	set("machine_id", "machine_id")
	set("user_id", "user")
	number("effective_user_id", "uid")
	number("real_user_id", "ruid")
	number("effective_group_id", "gid")
	number("real_group_id", "rgid")
	f["ansible_hostname"], _, _ = strings.Cut(line("node"), ".")
	_, f["ansible_domain"], _ = strings.Cut(line("fqdn"), ".")
	f["ansible_fips"] = line("fips") == "1"
	distribution(f, n)
	hardware(f, n)
	user(f, n)
	times(f, n)
	selinux(f, n["selinux"])
	network(f, n)
	if v := serviceManagers[line("init")]; v != "" {
		f["ansible_service_mgr"] = v
	} else {
		set("service_mgr", "init")
	}
	return f
}

var serviceManagers = map[string]string{"init": "sysvinit", "runit-init": "runit", "svscan": "svc", "openrc-init": "openrc", "procd": "openwrt_init"}

// distributions are Ansible's names, by the ID of os-release.
var distributions = map[string]string{
	"centos": "CentOS", "rhel": "RedHat", "rocky": "Rocky", "almalinux": "AlmaLinux", "ol": "OracleLinux", "fedora": "Fedora", "amzn": "Amazon",
	"debian": "Debian", "ubuntu": "Ubuntu", "opensuse-leap": "openSUSE Leap", "sles": "SLES",
}

var families = map[string]string{"Debian": "Debian", "Ubuntu": "Debian", "openSUSE Leap": "Suse", "SLES": "Suse"}

var inParentheses = regexp.MustCompile(`\(([^)]*)\)`)

var dotted = regexp.MustCompile(`\d+(\.\d+)*`)

func distribution(f map[string]any, n map[string]string) {
	r := map[string]string{}
	for l := range strings.Lines(n["release"]) {
		if k, v, ok := strings.Cut(strings.TrimSpace(l), "="); ok {
			r[k] = strings.Trim(v, `"'`)
		}
	}
	if r["ID"] == "" {
		return
	}
	name := or(distributions[r["ID"]], r["NAME"])
	version, major := r["VERSION_ID"], ""
	switch r["ID"] {
	case "centos":
		if parts := strings.SplitN(dotted.FindString(n["redhat"]), ".", 3); parts[0] != "" {
			version = strings.Join(parts[:min(len(parts), 2)], ".")
		}
	case "debian":
		if v := dotted.FindString(n["debian"]); v != "" {
			version = v
		}
	}
	major, minor, hasMinor := strings.Cut(version, ".")
	family := or(families[name], "RedHat")
	if _, known := distributions[r["ID"]]; !known {
		family = name
	}
	f["ansible_distribution"], f["ansible_distribution_version"], f["ansible_distribution_major_version"], f["ansible_os_family"] = name, version, major, family
	if hasMinor && r["ID"] == "debian" {
		f["ansible_distribution_minor_version"] = minor
	}
	release := r["VERSION_CODENAME"]
	if m := inParentheses.FindStringSubmatch(r["VERSION"]); release == "" && m != nil {
		release = m[1]
	}
	f["ansible_distribution_release"] = or(release, "NA")
	for _, tool := range []struct{ note, name string }{{"dnf", "dnf"}, {"yum", "yum"}, {"apt", "apt"}, {"zypper", "zypper"}} {
		if strings.TrimSpace(n[tool.note]) == "y" && (family != "Debian" || tool.name == "apt") {
			f["ansible_pkg_mgr"] = tool.name
			break
		}
	}
}

func hardware(f map[string]any, n map[string]string) {
	memory := map[string]int64{}
	for l := range strings.Lines(n["memory"]) {
		if w := strings.Fields(l); len(w) >= 2 {
			kb, _ := strconv.ParseInt(w[1], 10, 64)
			memory[strings.TrimSuffix(w[0], ":")] = kb / 1024
		}
	}
	for fact, name := range map[string]string{"memtotal_mb": "MemTotal", "memfree_mb": "MemFree", "swaptotal_mb": "SwapTotal", "swapfree_mb": "SwapFree"} {
		if v, ok := memory[name]; ok {
			f["ansible_"+fact] = v
		}
	}
	if w := strings.Fields(n["uptime"]); len(w) > 0 {
		if s, err := strconv.ParseFloat(w[0], 64); err == nil {
			f["ansible_uptime_seconds"] = int64(s)
		}
	}
	if w := strings.Fields(n["load"]); len(w) >= 3 {
		load := map[string]any{}
		for i, name := range []string{"1m", "5m", "15m"} {
			load[name], _ = strconv.ParseFloat(w[i], 64)
		}
		f["ansible_loadavg"] = load
	}
	processors(f, n)
	cmdline := map[string]any{}
	for _, w := range strings.Fields(n["cmdline"]) {
		if k, v, ok := strings.Cut(w, "="); ok {
			cmdline[k] = v
		} else {
			cmdline[w] = true
		}
	}
	f["ansible_cmdline"] = cmdline
}

// processors tells sockets, cores and threads of what /proc/cpuinfo says.
func processors(f map[string]any, n map[string]string) {
	var list []string
	sockets, cores, siblings := map[string]bool{}, int64(0), int64(0)
	for l := range strings.Lines(n["cpu"]) {
		k, v, _ := strings.Cut(strings.TrimSpace(l), ":")
		v = strings.TrimSpace(v)
		switch strings.TrimSpace(k) {
		case "processor", "vendor_id", "model name":
			list = append(list, v)
		case "physical id":
			sockets[v] = true
		case "cpu cores":
			cores, _ = strconv.ParseInt(v, 10, 64)
		case "siblings":
			siblings, _ = strconv.ParseInt(v, 10, 64)
		}
	}
	nproc, err := strconv.ParseInt(strings.TrimSpace(n["nproc"]), 10, 64)
	if err != nil || len(list) == 0 {
		return
	}
	f["ansible_processor"], f["ansible_processor_nproc"] = list, nproc
	if len(sockets) > 0 && cores > 0 && siblings >= cores {
		threads := siblings / cores
		f["ansible_processor_count"], f["ansible_processor_cores"], f["ansible_processor_threads_per_core"] = len(sockets), cores, threads
		f["ansible_processor_vcpus"] = int64(len(sockets)) * cores * threads
	}
}

func user(f map[string]any, n map[string]string) {
	if w := strings.Split(strings.TrimSpace(n["passwd"]), ":"); len(w) == 7 {
		uid, _ := strconv.ParseInt(w[2], 10, 64)
		gid, _ := strconv.ParseInt(w[3], 10, 64)
		f["ansible_user_uid"], f["ansible_user_gid"], f["ansible_user_gecos"], f["ansible_user_dir"], f["ansible_user_shell"] = uid, gid, w[4], w[5], w[6]
	}
}

func times(f map[string]any, n map[string]string) {
	w := strings.Fields(n["date"])
	if len(w) != 12 {
		return
	}
	out := map[string]any{"date": strings.Join(w[:3], "-"), "time": strings.Join(w[3:6], ":"), "iso8601": strings.TrimSpace(n["utc"])}
	for i, k := range []string{"year", "month", "day", "hour", "minute", "second", "epoch", "tz", "tz_offset", "weekday", "weekday_number", "weeknumber"} {
		out[k] = w[i]
	}
	out["epoch_int"] = w[6]
	f["ansible_date_time"] = out
}

func selinux(f map[string]any, said string) {
	w := append(strings.Split(said, "\n"), "", "", "", "")
	out := map[string]any{"status": "disabled"}
	if w[0] != "" {
		out = map[string]any{"status": "enabled", "mode": map[string]string{"0": "permissive", "1": "enforcing"}[w[0]], "config_mode": w[1], "type": w[2]}
		if v, err := strconv.ParseInt(w[3], 10, 64); err == nil {
			out["policyvers"] = v
		}
	}
	f["ansible_selinux"] = out
}

func network(f map[string]any, n map[string]string) {
	links, all := map[string]map[string]any{}, []string{}
	for l := range strings.Lines(n["link"]) {
		w := strings.Fields(l)
		if len(w) < 3 {
			continue
		}
		dev, _, _ := strings.Cut(strings.TrimSuffix(w[1], ":"), "@")
		all = append(all, dev)
		link := map[string]any{}
		for i := 0; i+1 < len(w); i++ {
			switch {
			case w[i] == "mtu":
				link["mtu"], _ = strconv.ParseInt(w[i+1], 10, 64)
			case strings.HasPrefix(w[i], "link/"):
				link["macaddress"], link["type"] = w[i+1], strings.TrimPrefix(w[i], "link/")
			}
		}
		links[dev] = link
	}
	slices.Sort(all)
	f["ansible_interfaces"] = all
	for fact, note := range map[string]string{"all_ipv4_addresses": "address4", "all_ipv6_addresses": "address6"} {
		out := []string{}
		for _, a := range addresses(n[note]) {
			if !a.prefix.Addr().IsLoopback() {
				out = append(out, a.prefix.Addr().String())
			}
		}
		f["ansible_"+fact] = out
	}
	f["ansible_default_ipv4"] = defaultRoute(n, links)
	dns := map[string]any{}
	for l := range strings.Lines(n["resolv"]) {
		switch w := strings.Fields(l); {
		case len(w) < 2:
		case w[0] == "nameserver":
			servers, _ := dns["nameservers"].([]string)
			dns["nameservers"] = append(servers, w[1])
		case w[0] == "search":
			dns["search"] = w[1:]
		case w[0] == "domain":
			dns["domain"] = w[1]
		}
	}
	f["ansible_dns"] = dns
}

type address struct {
	dev    string
	prefix netip.Prefix
}

// addresses are those that ip -o addr shows.
func addresses(said string) []address {
	var out []address
	for l := range strings.Lines(said) {
		if w := strings.Fields(l); len(w) >= 4 && (w[2] == "inet" || w[2] == "inet6") {
			if p, err := netip.ParsePrefix(w[3]); err == nil {
				out = append(out, address{w[1], p})
			}
		}
	}
	return out
}

// defaultRoute is the interface by which the world is reached.
func defaultRoute(n map[string]string, links map[string]map[string]any) map[string]any {
	out := map[string]any{}
	w := strings.Fields(n["route4"])
	for i := 0; i+1 < len(w); i++ {
		switch w[i] {
		case "via":
			out["gateway"] = w[i+1]
		case "dev":
			out["interface"] = w[i+1]
		case "src":
			out["address"] = w[i+1]
		}
	}
	for _, a := range addresses(n["address4"]) {
		if a.dev != out["interface"] || a.prefix.Addr().String() != out["address"] {
			continue
		}
		mask := ^uint32(0) << (32 - a.prefix.Bits())
		out["alias"], out["prefix"], out["network"] = a.dev, strconv.Itoa(a.prefix.Bits()), a.prefix.Masked().Addr().String()
		out["netmask"] = fmt.Sprintf("%d.%d.%d.%d", mask>>24, mask>>16&255, mask>>8&255, mask&255)
		for k, v := range links[a.dev] {
			out[k] = v
		}
	}
	return out
}
