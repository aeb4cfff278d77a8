package playbook

import (
	"strings"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// facts are the variables that setup may set, without what stands before each name.
var facts = strings.Fields(`all_ipv4_addresses all_ipv6_addresses architecture cmdline date_time default_ipv4
	distribution distribution_major_version distribution_minor_version distribution_release distribution_version dns
	domain effective_group_id effective_user_id fips fqdn hostname interfaces kernel kernel_version loadavg machine
	machine_id memfree_mb memtotal_mb nodename os_family pkg_mgr processor processor_cores processor_count
	processor_nproc processor_threads_per_core processor_vcpus real_group_id real_user_id selinux service_mgr
	swapfree_mb swaptotal_mb system uptime_seconds user_dir user_gecos user_gid user_id user_shell user_uid`)

// Gathered are the variables that a module which gathers facts sets in the run.
func Gathered(module string) []string {
	switch module {
	case builtinPrefix + "setup":
		out := []string{rollout.Gathered, "module_setup"}
		for _, f := range facts {
			out = append(out, "ansible_"+f)
		}
		return out
	case builtinPrefix + "service_facts":
		return []string{rollout.Gathered, "services"}
	case builtinPrefix + "package_facts":
		return []string{rollout.Gathered, "packages"}
	}
	return nil
}
