package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/auth"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/account"
	"github.com/fleetd/fleetd/pkg/words"
)

// sshOptions are options of ssh(1) in the order in which ssh would see them:
// the first value of an option wins, but for the few that add up.
type sshOptions struct {
	list     []sshOption
	dest     string // the host, where arguments named one
	config   string // -F
	forward  string // -W
	control  bool   // a control socket is named: the login may be another ssh's
	warnings []string
	err      error // the first of a value that cannot be read
}

func (o *sshOptions) fail(format string, args ...any) {
	if o.err == nil {
		o.err = fmt.Errorf(format, args...)
	}
}

type sshOption struct{ key, value string } // key in lower case

func (o *sshOptions) add(key, value string) {
	if key == "challengeresponseauthentication" {
		key = "kbdinteractiveauthentication" // its name since OpenSSH 8.7
	}
	if value != "" {
		o.list = append(o.list, sshOption{key, value})
	}
}

func (o *sshOptions) addNumber(key string, n int) {
	if n != 0 {
		o.add(key, strconv.Itoa(n))
	}
}

func (o *sshOptions) get(key string) string {
	_, v := o.first(key)
	return v
}

// first returns the option among keys that was set first.
func (o *sshOptions) first(keys ...string) (key, value string) {
	for _, x := range o.list {
		if slices.Contains(keys, x.key) {
			return x.key, x.value
		}
	}
	return "", ""
}

func (o *sshOptions) all(key string) []string {
	var out []string
	for _, x := range o.list {
		if x.key == key && !slices.Contains(out, x.value) {
			out = append(out, x.value)
		}
	}
	return out
}

// number returns 0 for an option that is not set, or is "none".
func (o *sshOptions) number(key string, most int) int {
	v := o.get(key)
	if v == "" || v == "none" {
		return 0
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 || n > most {
		o.fail("option %s: %q is not a number up to %d", key, v, most)
	}
	return n
}

func (o *sshOptions) boolean(key string) bool {
	v := strings.ToLower(o.get(key))
	switch v {
	case "", "no", "false", "yes", "true":
	default:
		o.fail("option %s: %q is neither yes nor no", key, v)
	}
	return v == "yes" || v == "true"
}

// authentications are the ways to log in that are left, nil if they are the usual.
func (o *sshOptions) authentications() []string {
	switches := map[string]string{"publickey": "pubkeyauthentication", "keyboard-interactive": "kbdinteractiveauthentication", "password": "passwordauthentication"}
	asked := auth.Ways
	if v := o.get("preferredauthentications"); v != "" {
		asked = strings.Split(v, ",")
	}
	out := []string{}
	for _, m := range asked {
		if key, has := switches[m]; has && !slices.Contains(out, m) && !isOff(o.get(key)) {
			out = append(out, m)
		}
	}
	if len(out) == 0 {
		o.fail("ssh's options leave no way to log in of those that fleetd has (%s): see PreferredAuthentications (%s), PubkeyAuthentication and the like",
			strings.Join(auth.Ways, ", "), strings.Join(asked, ","))
	}
	if slices.Equal(out, auth.Ways) {
		return nil
	}
	return out
}

func isOff(v string) bool { return strings.EqualFold(v, "no") || strings.EqualFold(v, "false") }

func (o *sshOptions) family() string {
	v := strings.ToLower(o.get("addressfamily"))
	switch v {
	case "any":
		return ""
	case "", "inet", "inet6":
	default:
		o.fail("AddressFamily %s is not known", v)
	}
	return v
}

// files expands the names of an option's files, less "none".
func (o *sshOptions) files(key string, names []string, t sshexec.Target) []string {
	var out []string
	for _, v := range names {
		if v == "none" {
			continue
		}
		f, err := expandPath(v, t)
		if err != nil {
			o.fail("option %s: %w", key, err)
		}
		out = append(out, f)
	}
	return out
}

// fileList returns the one value of an option that lists files.
func (o *sshOptions) fileList(key string, t sshexec.Target) []string {
	words, err := words.Fields(o.get(key))
	if err != nil {
		o.fail("option %s: %w", key, err)
	}
	return o.files(key, words, t)
}

// expandPath expands "~" and the percent tokens.
func expandPath(s string, t sshexec.Target) (string, error) {
	if s == "" || s == "none" {
		return s, nil
	}
	s, err := t.Expand(s)
	if err != nil {
		return "", err
	}
	s = account.Expand(s)
	if !filepath.IsAbs(s) && s != "SSH_AUTH_SOCK" && !strings.HasPrefix(s, "$") {
		// ssh reads it relative to where it was started; so do we.
		if abs, err := filepath.Abs(s); err == nil {
			return abs, nil
		}
	}
	return s, nil
}

// flagsWithValue are the one-letter flags of ssh that take a value.
const flagsWithValue = "bcDEeFIiJLlmOopQRSWwB"

// addArgs reads arguments as they would stand before the host on ssh's command
// line. If a host follows, it is left in dest.
func (o *sshOptions) addArgs(text string) error {
	words, err := words.Fields(text)
	if err != nil {
		return err
	}
	return o.addWords(words)
}

func (o *sshOptions) addWords(words []string) error {
	for i := 0; i < len(words); i++ {
		w := words[i]
		if w == "--" {
			continue
		}
		if len(w) < 2 || w[0] != '-' {
			if o.dest != "" {
				return fmt.Errorf("%q after the host %q", w, o.dest)
			}
			if err := o.setDestination(w); err != nil {
				return err
			}
			continue
		}
		for j := 1; j < len(w); j++ {
			flag := w[j]
			if strings.IndexByte(flagsWithValue, flag) < 0 {
				if err := o.addFlag(flag); err != nil {
					return err
				}
				continue
			}
			value := w[j+1:]
			if value == "" {
				if i++; i == len(words) {
					return fmt.Errorf("-%c lacks its value", flag)
				}
				value = words[i]
			}
			if err := o.addFlagValue(flag, value); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

func (o *sshOptions) addFlag(flag byte) error {
	switch flag {
	case '4':
		o.add("addressfamily", "inet")
	case '6':
		o.add("addressfamily", "inet6")
	case 'A', 'a', 'C', 'K', 'k', 'M', 'n', 'q', 'T', 't', 'v', 'X', 'x', 'Y', 'y', 'N':
	default:
		return fmt.Errorf("ssh's flag -%c is not supported", flag)
	}
	return nil
}

func (o *sshOptions) addFlagValue(flag byte, value string) error {
	switch flag {
	case 'i', 'J', 'l', 'p':
		o.add(map[byte]string{'i': "identityfile", 'J': "proxyjump", 'l': "user", 'p': "port"}[flag], value)
	case 'F':
		if o.config == "" {
			o.config = account.Expand(value)
		}
	case 'W':
		o.forward = value
	case 'o':
		return o.addOption(value)
	case 'S':
		o.control = o.control || value != "none"
	case 'E', 'e': // log file, escape character
	case 'c', 'm':
		o.warnings = append(o.warnings, fmt.Sprintf("ssh's -%c %s is not followed: fleetd chooses the algorithms", flag, value))
	default:
		return fmt.Errorf("ssh's flag -%c is not supported", flag)
	}
	return nil
}

// addOption reads "Key=Value" or "Key Value".
func (o *sshOptions) addOption(s string) error {
	s = strings.TrimSpace(s)
	key, value := configLine(s)
	if key == "" || value == "" {
		return fmt.Errorf("option %q lacks its value", s)
	}
	if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' && key != "proxycommand" {
		value = value[1 : len(value)-1]
	}
	switch useOf(key, value) {
	case unknown, refused:
		return fmt.Errorf("ssh's option %s is not supported", s[:strings.IndexAny(s, "= \t")])
	case differs:
		o.warnings = append(o.warnings, fmt.Sprintf("ssh's option %s is not followed", s))
	case followed:
		o.add(key, value)
	case harmless:
		o.control = o.control || key == "controlpath" && value != "none"
	}
	return nil
}

// jumpOfCommand recognizes a ProxyCommand that is nothing but an ssh which
// forwards to the host, and returns the options of that ssh.
func jumpOfCommand(command string) (*sshOptions, bool) {
	if strings.ContainsAny(command, ";&|<>`$()\n") {
		return nil, false
	}
	words, err := words.Fields(command)
	if err != nil {
		return nil, false
	}
	if len(words) > 0 && words[0] == "exec" {
		words = words[1:]
	}
	if len(words) < 3 || (words[0] != "ssh" && words[0] != "/usr/bin/ssh") {
		return nil, false
	}
	o := &sshOptions{}
	if err := o.addWords(words[1:]); err != nil || o.dest == "" || strings.Contains(o.dest, "%") || o.warnings != nil || o.control {
		return nil, false
	}
	if o.forward != "%h:%p" && o.forward != "[%h]:%p" {
		return nil, false
	}
	return o, true
}
