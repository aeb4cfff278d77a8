package config

import (
	"regexp"
	"strconv"
)

// secretVariable is what connection and become plugins call the variables that they
// take passwords, passphrases, keys and tokens from: those of ansible-core and of the
// collections ansible.netcommon, ansible.windows, community.general, community.okd,
// community.vmware, kubernetes.core and amazon.aws, of now and of Ansible 2. Some know
// one ending, some the other: who remembers it wrong has given a password all the same.
var secretVariable = regexp.MustCompile(`^ansible_([a-z0-9]+_)*(pass|password|passphrase|private_key|token|api_key|session_key|secret_access_key)$`)

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
			if secretVariable.MatchString(word) {
				return word
			}
		}
	}
	return ""
}
