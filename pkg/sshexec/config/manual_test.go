package config

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/ssh.md anew")

// manual is docs/ssh.md, made from the tables that the options are read by.
func manual() string {
	var sb strings.Builder
	list := func(title, what string, names string) {
		words := strings.Fields(names)
		slices.SortFunc(words, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
		fmt.Fprintf(&sb, "\n### %s\n\n%s\n\n`%s`\n", title, what, strings.Join(words, "` `"))
	}
	sb.WriteString(`# Options of ssh and variables of Ansible

fleetd is its own SSH client. It reads ssh_config and an inventory's variables as ssh
and Ansible do, and says so where it does not follow them. This page is made from the
tables that it goes by (go generate ./pkg/sshexec/config).

## Options of ssh

In ~/.ssh/config and /etc/ssh/ssh_config, with Host, Include and Match; in
ansible_ssh_args, ansible_ssh_common_args and ansible_ssh_extra_args as -o, or as the
flags -4 -6 -F -i -J -l -p. What stands under a Match that depends on more than the
pass is asked of ssh itself (ssh -G). Which of two settings counts is ssh's rule: the
first.
`)
	list("Followed", "How the host is reached, how it is known, and how one logs in. `StrictHostKeyChecking no` is read as `accept-new` and "+
		"`UserKnownHostsFile /dev/null` as the usual files, with a warning: a changed key is always refused. With `GSSAPIAuthentication` "+
		"a login that fails says that fleetd has no Kerberos. `ProxyCommand ssh -W %h:%p …` becomes a jump host, unless it has options that only ssh can follow.", optionNames[followed])
	list("Refused", "The host would be reached in another way without it: an error, unless it is off. Options that are on none of these lists are refused, too, "+
		"where they stand in an inventory's arguments, and warned of in ssh_config. `CanonicalizeHostname` of ssh_config is left to `ssh -G`.", optionNames[refused])
	list("Warned of", "fleetd chooses by itself; `--ssh-algorithms` has a say. In files below /etc, where distributions set algorithms and locales, only "+
		"`KnownHostsCommand`, `PKCS11Provider` and `SecurityKeyProvider` are warned of.", optionNames[differs])
	list("Without effect", "They change neither which host is reached, nor how, nor as whom.", optionNames[harmless])
	sb.WriteString("\n## Variables of Ansible\n\nOf several names of one setting that with `ssh`, `sudo` or `su` in it is the strongest, as in Ansible.\n")
	list("Followed", "`ansible_connection` must be ssh, and `ansible_ssh_executable`, if it is set, the usual one.", variableNames[followed])
	list("Warned of", "A key that is not in a file is used through an agent.", variableNames[differs])
	list("Without effect", "Nothing is copied by scp, and connections are shared and retried anyway.", variableNames[harmless])
	return sb.String()
}

func TestManual(t *testing.T) {
	const file = "../../../docs/ssh.md"
	if *update {
		if err := os.WriteFile(file, []byte(manual()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != manual() {
		t.Errorf("docs/ssh.md is not what the tables say: go generate ./pkg/sshexec/config (%v)", err)
	}
}

// TestVariablesAreInTheTable: each that the code asks for is in the manual.
func TestVariablesAreInTheTable(t *testing.T) {
	listed := strings.Fields(variableNames[followed])
	for _, f := range []string{"vars.go", "varstarget.go"} {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`"(ansible_[a-z_]*[a-z])"`).FindAllStringSubmatch(string(text), -1) {
			if !slices.Contains(listed, m[1]) {
				t.Errorf("%s reads %s, which the table does not list as followed", f, m[1])
			}
		}
	}
}
