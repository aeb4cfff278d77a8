package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/hostkeys"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/account"
	"github.com/fleetd/fleetd/pkg/words"
)

// DefaultSSHConfig returns the ssh_config files that ssh reads, as far as they
// exist: the user's, then the system's.
func DefaultSSHConfig() []string {
	files := []string{"/etc/ssh/ssh_config"}
	if home, err := os.UserHomeDir(); err == nil {
		files = append([]string{filepath.Join(home, ".ssh", "config")}, files...)
	}
	return slices.DeleteFunc(files, func(f string) bool {
		_, err := os.Stat(f)
		return err != nil
	})
}

// An SSHConfig is files in the format of ssh_config, of which the first match
// wins. Each is read once, when it is first needed, however many hosts there are.
type SSHConfig struct {
	files []string

	mu   sync.Mutex
	read map[string]*parsedConfig // by the names of the files
}

// NewSSHConfig returns what the files say; see [DefaultSSHConfig].
func NewSSHConfig(files ...string) *SSHConfig { return &SSHConfig{files: files} }

// A parsedConfig is files with their Includes, read as one.
type parsedConfig struct {
	blocks  []*configBlock
	needSSH string // why only ssh can read it; empty if it need not
	err     error
}

// parsed reads the files, unless they were read before.
func (c *SSHConfig) parsed(files []string) *parsedConfig {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := strings.Join(files, "\x00")
	p := c.read[name]
	if p == nil {
		p = parseConfig(files)
		if c.read == nil {
			c.read = map[string]*parsedConfig{}
		}
		c.read[name] = p
	}
	return p
}

// A configBlock is the options under one Host.
type configBlock struct {
	patterns []string
	final    bool // it stands for a "Match final all"
	options  []sshOption
}

func (b *configBlock) matches(host string) bool {
	return hostkeys.Match(b.patterns, host)
}

func parseConfig(files []string) *parsedConfig {
	p := &parsedConfig{}
	for _, f := range files {
		flat := &flatConfig{blocks: []*configBlock{everyHost()}}
		if err := flat.read(f, 0, false); err != nil {
			return &parsedConfig{err: err}
		}
		if flat.needSSH != "" {
			return &parsedConfig{needSSH: flat.needSSH}
		}
		p.blocks = append(p.blocks, flat.blocks...)
	}
	return p
}

func everyHost() *configBlock { return &configBlock{patterns: []string{"*"}} }

// addConfig adds what the files say about dest, after what is there.
func (o *sshOptions) addConfig(c *SSHConfig, dest string) error {
	files := c.files
	switch o.config {
	case "":
	case "none":
		return nil
	default:
		files = []string{o.config}
	}
	p := c.parsed(files)
	if p.err != nil {
		return p.err
	}
	if p.needSSH != "" {
		// Match, and Include in the middle of a Host, are what only ssh
		// itself evaluates rightly.
		return o.askSSH(files, dest, p.needSSH)
	}
	if err := o.addMatching(p.blocks, dest, false); err != nil {
		return err
	}
	if !slices.ContainsFunc(p.blocks, func(b *configBlock) bool { return b.final }) {
		return nil
	}
	// "Match final" has the whole read once more, and Host looked up by the name
	// that was found, which stays.
	if h := o.get("hostname"); h != "" {
		dest = expandHostName(h, dest)
	} else {
		o.add("hostname", dest)
	}
	return o.addMatching(p.blocks, dest, true)
}

func expandHostName(h, dest string) string {
	return strings.NewReplacer("%h", dest, "%%", "%").Replace(h)
}

// addMatching adds what the blocks say of dest in the first or the final pass.
func (o *sshOptions) addMatching(blocks []*configBlock, dest string, final bool) error {
	for _, b := range blocks {
		if b.final && !final || !b.final && !b.matches(dest) {
			continue
		}
		for _, x := range b.options {
			switch useOf(x.key, x.value) {
			case refused:
				return fmt.Errorf("ssh_config's option %s %s is not supported", x.key, x.value)
			case unknown, differs:
				o.warnings = append(o.warnings, fmt.Sprintf("ssh_config's option %s %s is not followed", x.key, x.value))
				continue
			}
			if x.key == "identityfile" && !fileExists(x.value, sshexec.Target{Address: dest}) {
				// ssh passes over a key that is not there when ssh_config, not
				// the command line, names it.
				continue
			}
			o.add(x.key, x.value)
		}
	}
	return nil
}

func fileExists(name string, t sshexec.Target) bool {
	f, err := expandPath(name, t)
	if err != nil {
		return true // the error is told where the option is used
	}
	_, err = os.Stat(f)
	return err == nil
}

// flatConfig is one ssh_config file with its Includes put in their place.
type flatConfig struct {
	blocks  []*configBlock
	inMatch bool
	needSSH string // why only ssh can read it; empty if it need not
}

// read follows OpenSSH: an Include is as if the files' lines stood there, but
// for a Host line in them, which ends with the file. within tells that the
// Include stands under a Host.
func (c *flatConfig) read(file string, depth int, within bool) error {
	inHost := within
	if depth > 16 {
		return fmt.Errorf("%s: too many levels of Include", file)
	}
	b, err := os.ReadFile(account.Expand(file))
	if errors.Is(err, fs.ErrNotExist) && depth == 0 {
		return fmt.Errorf("cannot read ssh_config %s: %w", file, account.Reason(err))
	}
	if err != nil {
		return nil //nolint:nilerr // ssh, too, passes over an Include that it cannot read
	}
	for n, line := range strings.Split(string(b), "\n") {
		key, rest := configLine(line)
		switch {
		case key == "":
		case key == "match" && alwaysMatches(rest) != nil:
			if within {
				c.needSSH = fmt.Sprintf("%s:%d has a Match within an Include within a Host", file, n+1)
				return nil
			}
			inHost, c.inMatch = true, false
			c.blocks = append(c.blocks, alwaysMatches(rest))
		case key == "match":
			c.inMatch = true
			if slices.Contains(strings.Fields(strings.ToLower(rest)), "final") {
				// Only what stands under it can need ssh, but the whole is read once
				// more all the same.
				c.blocks = append(c.blocks, &configBlock{final: true})
			}
		case key == "host":
			if within {
				c.needSSH = fmt.Sprintf("%s:%d has a Host within an Include within a Host", file, n+1)
				return nil
			}
			inHost, c.inMatch = true, false
			patterns, err := words.Fields(withoutComment(rest))
			if err != nil {
				return fmt.Errorf("%s:%d: %w", file, n+1, err)
			}
			c.blocks = append(c.blocks, &configBlock{patterns: patterns})
		case key == "include":
			if c.inMatch {
				sub := &flatConfig{inMatch: true, blocks: []*configBlock{everyHost()}}
				if err := sub.include(file, rest, depth, false); err != nil {
					return err
				}
				if sub.needSSH != "" || len(sub.blocks) > 1 || sub.blocks[0].options != nil {
					c.needSSH = fmt.Sprintf("%s:%d has an Include within a Match", file, n+1)
					return nil
				}
				continue
			}
			if err := c.include(file, rest, depth, inHost); err != nil {
				return err
			}
		case !c.matters(file, key, rest):
		case c.inMatch:
			c.needSSH = fmt.Sprintf("%s:%d sets %s under Match", file, n+1, key)
			return nil
		case key == "canonicalizehostname":
			c.needSSH = fmt.Sprintf("%s:%d sets %s", file, n+1, key)
			return nil
		default:
			last := c.blocks[len(c.blocks)-1]
			last.options = append(last.options, sshOption{key, unquote(rest, key)})
		}
		if c.needSSH != "" {
			return nil
		}
	}
	if depth > 0 && !within {
		// What follows the Include is for every host again.
		c.blocks = append(c.blocks, everyHost())
	}
	return nil
}

// alwaysMatches is the Host that is the same as a Match of these criteria, nil if it
// depends on more than the pass.
func alwaysMatches(criteria string) *configBlock {
	switch strings.Join(strings.Fields(strings.ToLower(withoutComment(criteria))), " ") {
	case "all":
		return everyHost()
	case "final", "final all":
		return &configBlock{final: true}
	}
	return nil
}

// ofTheSystem begins the names of files whose algorithms and locales are the
// distribution's, no wish of the person's that a warning would have to say is not
// followed.
var ofTheSystem = "/etc/"

// matters tells that an option concerns fleetd.
func (c *flatConfig) matters(file, key, value string) bool {
	switch useOf(key, unquote(value, key)) {
	case harmless:
		return false
	case unknown, differs:
		asked := key == "knownhostscommand" || key == "pkcs11provider" || key == "securitykeyprovider"
		return !c.inMatch && (asked || !strings.HasPrefix(file, ofTheSystem))
	}
	return true
}

func (c *flatConfig) include(file, patterns string, depth int, within bool) error {
	words, err := words.Fields(patterns)
	if err != nil {
		return fmt.Errorf("%s: Include: %w", file, err)
	}
	for _, w := range words {
		w = account.Expand(w)
		if !filepath.IsAbs(w) {
			// Relative to the user's or the system's directory, as ssh reads it.
			dir := "/etc/ssh"
			if home, err := os.UserHomeDir(); err == nil && !strings.HasPrefix(file, "/etc/ssh/") {
				dir = filepath.Join(home, ".ssh")
			}
			w = filepath.Join(dir, w)
		}
		found, err := filepath.Glob(w)
		if err != nil {
			return fmt.Errorf("%s: Include %s: %w", file, w, err)
		}
		for _, f := range found {
			match := c.inMatch
			if err := c.read(f, depth+1, within); err != nil {
				return err
			}
			c.inMatch = match
		}
	}
	return nil
}

// configLine splits a line into its keyword, in lower case, and the rest.
func configLine(line string) (key, rest string) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return "", ""
	}
	i := strings.IndexAny(line, " \t=")
	if i < 0 {
		return strings.ToLower(line), ""
	}
	rest = strings.TrimSpace(line[i:])
	rest = strings.TrimSpace(strings.TrimPrefix(rest, "="))
	return strings.ToLower(line[:i]), rest
}

// withoutComment cuts a value at a "#" that begins a word outside quotes.
func withoutComment(v string) string {
	quote := byte(0)
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case c == '#' && quote == 0 && (i == 0 || v[i-1] == ' ' || v[i-1] == '\t'):
			return strings.TrimSpace(v[:i])
		case c == '\\':
			i++
		case c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		}
	}
	return v
}

// unquote takes the comment and the quotes off a value that is one quoted word.
// Options that hold a command or a list keep their quotes.
func unquote(v, key string) string {
	if key == "proxycommand" {
		return v
	}
	if v = withoutComment(v); strings.HasSuffix(key, "knownhostsfile") || key == "revokedhostkeys" {
		return v
	}
	if words, err := words.Fields(v); err == nil && len(words) == 1 {
		return words[0]
	}
	return v
}
