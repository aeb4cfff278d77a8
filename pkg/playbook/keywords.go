package playbook

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
)

// keywords are all that Ansible (2.14 and later) takes in one place, with what
// fleetd says of those that it does not support; "" is supported.
type keywords struct {
	place string // "play", "task", …
	names map[string]string
}

const (
	soon          = "remove it; what it asks for cannot be done with fleetd"
	noHandlers    = "write it at each task; a host that failed runs no handlers"
	ownFacts      = "a fact that a delegated task sets is the host's whose task it is"
	inPlays       = "write it into the plays of the imported playbook"
	noLoops       = "write the items out with loop"
	connectionVar = "set it in the inventory, as ansible_%s"
)

// base are the keywords that Ansible takes everywhere.
var base = map[string]string{
	"name": "", "vars": "", "tags": "", "become": "", "become_user": "", "become_method": "", "become_exe": "", "become_flags": "", "connection": "", "run_once": "", "any_errors_fatal": "", "ignore_errors": "",
	"ignore_unreachable": "", "no_log": "", "throttle": "", "timeout": "", "environment": "", "check_mode": "", "diff": "",

	"remote_user":     "set it in the inventory, as ansible_user",
	"port":            connectionVar,
	"module_defaults": "write the parameters into the task",
	"debugger":        soon,
}

var playKeywords = extend("play", map[string]string{
	"hosts": "", "vars_files": "", "tasks": "", "pre_tasks": "", "post_tasks": "", "serial": "", "strategy": "", "order": "",
	"max_fail_percentage": "", "gather_facts": "", "handlers": "",

	"roles":          "write the tasks into the play, or take them in with import_tasks",
	"force_handlers": noHandlers,
	"vars_prompt":    "give the variable with -e",
	"gather_subset":  "fleetd reads what its modules need",
	"gather_timeout": "fleetd reads what its modules need",
	"fact_path":      "fleetd reads what its modules need",
	"collections":    "write module names in full",
	"user":           "set it in the inventory, as ansible_user",
})

var blockKeywords = extend("block", map[string]string{
	"block": "", "when": "", "rescue": "", "always": "",
	"delegate_to":    "",
	"delegate_facts": ownFacts,
	"notify":         noHandlers,
	"collections":    "write module names in full",
})

var taskKeywords = extend("task", map[string]string{
	"args": "", "when": "", "delegate_to": "", "register": "", "changed_when": "", "failed_when": "",
	"until": "", "retries": "", "delay": "", "loop": "", "loop_control": "", "notify": "", "listen": "",
	"action":         "write the module's name as the key: \"fleetd.kernel.default:\"",
	"local_action":   "write the module's name as the key, and delegate_to: localhost",
	"delegate_facts": ownFacts,
	"async":          "fleetd runs hosts side by side and keeps a journal of what goes on",
	"poll":           "fleetd runs hosts side by side and keeps a journal of what goes on",
	"collections":    "write module names in full",
	"static":         soon,
})

var importPlaybookKeywords = extend("import_playbook", map[string]string{
	"import_playbook": "", "ansible.builtin.import_playbook": "", "when": "", "environment": inPlays,
}, innermost...)

// actions are what Ansible takes in the place of a module's name, but runs by
// itself.
var actions = map[string]string{
	"include":         "use import_tasks",
	"include_tasks":   "use import_tasks: a plan must know all tasks",
	"include_role":    "take the role's tasks in with import_tasks",
	"import_role":     "take the role's tasks in with import_tasks",
	"add_host":        "the inventory says which hosts there are",
	"group_by":        "the inventory says which groups there are",
	"gather_facts":    "fleetd reads what its modules need",
	"import_playbook": "it stands in the place of a play, not of a task",
	"reboot":          "use fleetd.kernel.trial_boot, which can come back",
}

// noLoop says what to write for loops whose items come from the bastion, which a plan
// would have to be bound to.
var noLoop = map[string]string{
	"with_fileglob":            "copy takes a folder as it is; other files are written out with loop",
	"with_filetree":            "copy takes a folder as it is",
	"with_first_found":         "name the file by the host's variables, as in \"{{ inventory_hostname }}.conf\"",
	"with_inventory_hostnames": "use loop: \"{{ groups['all'] }}\", or the group",
	"with_random_choice":       "a plan must come out the same each time it is computed",
}

// extend adds a place's own keywords to those of all; some belong into the plays
// within it.
func extend(place string, own map[string]string, within ...string) keywords {
	names := maps.Clone(base)
	maps.Copy(names, own)
	for _, name := range within {
		if _, known := names[name]; known {
			names[name] = inPlays
		}
	}
	return keywords{place, names}
}

// article is the place in a sentence.
func (k keywords) article() string {
	if k.place == importPlaybookKeywords.place {
		return "an " + k.place
	}
	return "a " + k.place
}

// known reports whether Ansible knows the keyword here.
func (k keywords) known(name string) bool {
	_, ok := k.names[name]
	return ok || strings.HasPrefix(name, "with_") && k.place == "task"
}

// refuse says why a known keyword cannot be used, or that it can ("", true).
func (k keywords) refuse(name string) (why string, supported bool) {
	if loops[name] != nil {
		return "", true
	}
	if strings.HasPrefix(name, "with_") {
		return cmp.Or(noLoop[name], noLoops), false
	}
	why = k.names[name]
	if strings.Contains(why, "%s") {
		why = strings.ReplaceAll(why, "%s", name)
	}
	return why, why == ""
}

func (k keywords) supported() []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(k.names)) {
		if k.names[name] == "" {
			out = append(out, name)
		}
	}
	return out
}

// builtin are modules that come with Ansible. They are named here only to tell
// them from misspelt names.
var builtin = strings.Fields(`apt apt_key apt_repository assemble async_status blockinfile cron debconf dnf dnf5 dpkg_selections expect
	fetch find get_url getent git group hostname iptables known_hosts lineinfile mount_facts package pip replace
	rpm_key service subversion systemd systemd_service sysvinit tempfile unarchive uri user yum yum_repository`)

// elsewhere names the places that take a keyword which this one does not.
func elsewhere(name string, not string) string {
	var out []string
	for _, k := range []keywords{playKeywords, blockKeywords, taskKeywords} {
		if k.known(name) && k.place != not {
			out = append(out, "a "+k.place)
		}
	}
	return strings.Join(out, " or ")
}

// didYouMean is the hint for a misspelt name.
func didYouMean(name string, known []string, otherwise string) string {
	if near := jinja.Nearest(name, known); near != "" {
		return "did you mean " + near + "?"
	}
	return otherwise
}
