package node

import (
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/text"
)

// secrets are texts that must not be written down.
type secrets []string

// redacted stands for a secret.
const redacted = "***"

// secretsOf are the passwords of the target, those of its jump hosts, and what
// else a command has, in each of the forms in which they get into a text.
func secretsOf(t sshexec.Target, more []sshexec.Secret) secrets {
	var out secrets
	for _, s := range slices.Concat(t.Secrets(), more) {
		plain := s.Reveal()
		quoted := strings.ReplaceAll(plain, `'`, `'\''`) // as in a shell's word
		bare := strings.TrimSpace(plain)                 // a file's newline is not printed with it
		for _, form := range []string{plain, quoted, bare, text.Printable(plain)} {
			// Two or three asterisks are no secret that this could keep.
			if !strings.HasPrefix(redacted, form) && !slices.Contains(out, form) {
				out = append(out, form)
			}
		}
	}
	return out
}

// lines is how many lines a secret may have.
func (s secrets) lines() int {
	most := 1
	for _, secret := range s {
		most = max(most, strings.Count(secret, "\n")+1)
	}
	return most
}

// redact replaces the secrets in a text. Those that overlap are replaced as one:
// one after the other would leave the rest of the second.
func (s secrets) redact(text string) string {
	for {
		covered := s.find(text)
		if covered == nil {
			return text
		}
		var sb strings.Builder
		for i := 0; i < len(text); i++ {
			switch {
			case !covered[i]:
				sb.WriteByte(text[i])
			case i == 0 || !covered[i-1]:
				sb.WriteString(redacted)
			}
		}
		// What has come together now may be a secret that begins with an asterisk.
		text = sb.String()
	}
}

// redactAll replaces the secrets in all texts of an operation.
func (s secrets) redactAll(op rollout.Operation) rollout.Operation {
	op.Text, op.Result, op.Output = s.redact(op.Text), s.redact(op.Result), s.redact(op.Output)
	return op
}

// find tells which bytes of a text belong to a secret; nil = none do.
func (s secrets) find(text string) (covered []bool) {
	for _, secret := range s {
		for from, done := 0, 0; ; {
			i := strings.Index(text[from:], secret)
			if i < 0 {
				break
			}
			if covered == nil {
				covered = make([]bool, len(text))
			}
			from += i
			for k := max(from, done); k < from+len(secret); k++ {
				covered[k] = true
			}
			done = from + len(secret)
			from++
		}
	}
	return covered
}
