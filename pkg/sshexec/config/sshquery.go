package config

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/account"
	"github.com/fleetd/fleetd/pkg/text"
)

// askSSH has ssh itself evaluate its configuration (ssh -G), which needs no
// connection.
func (o *sshOptions) askSSH(files []string, dest, why string) error {
	args := []string{"-G"}
	switch {
	case len(files) == 1 && !slices.Equal(files, DefaultSSHConfig()):
		args = append(args, "-F", files[0])
	case slices.Equal(files, DefaultSSHConfig()):
	default:
		return fmt.Errorf("%s, and ssh -G reads one file only", why)
	}
	// A Match may depend on them.
	if u := o.get("user"); u != "" {
		args = append(args, "-l", u)
	}
	if p := o.get("port"); p != "" {
		args = append(args, "-p", p)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ssh", append(args, "--", dest)...).Output()
	if err != nil {
		said := ""
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			said = ": " + strings.TrimSpace(string(e.Stderr))
		}
		return fmt.Errorf("%s, and ssh -G fails: %w%s", why, err, text.Printable(said))
	}
	return o.addAnswer(string(out), dest)
}

// addAnswer reads the output of ssh -G. It names every option; what is only
// ssh's default must not hide the caller's own defaults.
func (o *sshOptions) addAnswer(out, dest string) error {
	home, _ := os.UserHomeDir()
	for line := range strings.Lines(out) {
		key, value := configLine(line)
		isDefault := false
		switch key {
		case "user":
			isDefault = value == account.Name()
		case "hostname":
			isDefault = value == dest
		case "port":
			isDefault = value == "22"
		case "stricthostkeychecking":
			isDefault = value == "ask"
		case "connecttimeout", "proxyjump", "proxycommand":
			isDefault = value == "none"
		case "addressfamily":
			isDefault = value == "any"
		case "identitiesonly":
			isDefault = value == "no"
		case "userknownhostsfile":
			plain := strings.ReplaceAll(value, "~", home)
			isDefault = plain == home+"/.ssh/known_hosts "+home+"/.ssh/known_hosts2"
		case "globalknownhostsfile":
			isDefault = value == "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"
		case "identityfile":
			isDefault = !fileExists(value, sshexec.Target{Address: dest}) || slices.Contains(account.Keys(), strings.Replace(value, "~", home, 1))
		}
		switch useOf(key, value) {
		case followed:
			if !isDefault {
				o.add(key, value)
			}
		case refused:
			if key != "canonicalizehostname" { // ssh has done it
				return fmt.Errorf("ssh_config's option %s %s is not supported", key, value)
			}
		}
	}
	return nil
}
