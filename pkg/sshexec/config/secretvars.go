package config

import (
	"regexp"
	"slices"
	"strconv"
)

// secretVariables are the variables that connection and become plugins take
// passwords, passphrases, keys and tokens from: those of ansible-core and of the
// collections ansible.netcommon, ansible.windows, community.general,
// community.okd, community.vmware, kubernetes.core and amazon.aws, of now and of
// Ansible 2.
var secretVariables = func() []string {
	out := []string{
		"ansible_private_key", "ansible_private_key_passphrase", "ansible_private_key_password",
		"ansible_ssh_private_key", "ansible_ssh_private_key_passphrase",
		"ansible_httpapi_session_key", "ansible_kubectl_token", "ansible_kubectl_api_key", "ansible_oc_token", "ansible_oc_api_key",
		"ansible_aws_ssm_secret_access_key", "ansible_aws_ssm_session_token",
	}
	// Some plugins know one ending, some the other, some both, and some have no
	// variable of their own. Who remembers it wrong has given a password all the
	// same.
	for _, plugin := range []string{
		"", "ssh_", "paramiko_", "libssh_", "winrm_", "psrp_", "httpapi_", "kubectl_", "oc_", "vmware_", "vmware_tools_",
		"become_", "sudo_", "su_", "doas_", "dzdo_", "enable_", "ksu_", "ksusu_", "machinectl_", "pbrun_", "pfexec_", "pmrun_", "run0_", "runas_", "sesu_", "sudosu_",
	} {
		out = append(out, "ansible_"+plugin+"pass", "ansible_"+plugin+"password")
	}
	slices.Sort(out)
	return out
}()

// isSecretVariable tells whether a variable of this name is one of them.
func isSecretVariable(name string) bool {
	_, found := slices.BinarySearch(secretVariables, name)
	return found
}

var (
	identifier = regexp.MustCompile(`[A-Za-z_][A-Za-z0-9_]*`)
	escape     = regexp.MustCompile(`\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8})`)
)

// SecretVariableIn returns the first such name that a text has as a word, "" if
// it has none. The text is of any form that extra vars have, key=value, JSON or
// YAML: no matter how it is quoted and spaced, a name stands in it as a word, or
// with some of its characters escaped. A name that is only mentioned counts as
// well: it is better to ask for another way once too often.
func SecretVariableIn(text string) string {
	plain := escape.ReplaceAllStringFunc(text, func(e string) string {
		r, err := strconv.ParseUint(e[2:], 16, 31)
		if err != nil {
			return e
		}
		return string(rune(r))
	})
	for _, t := range []string{text, plain} {
		for _, word := range identifier.FindAllString(t, -1) {
			if isSecretVariable(word) {
				return word
			}
		}
	}
	return ""
}
