package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/account"
)

// FromVars makes a target of a host's Ansible connection variables:
// ansible_host, _port, _user, _password, ansible_ssh_private_key_file,
// ansible_ssh_args, _common_args and _extra_args, ansible_timeout,
// ansible_host_key_checking, ansible_become_method, _user, _password, _exe and
// _flags, and their older names. It is pure, but for reading ssh_config when
// opts ask for it.
//
// A value that is an error is what kept the caller from finding the value: it is
// returned if the variable is needed, and only then.
//
// Precedence is that of the command line which Ansible gives to ssh: ssh_args,
// the variables, common_args, extra_args, ssh_config, opts. An argument or
// option of ssh that changes how a host is reached and that fleetd does not
// know is an error: a host must not silently be reached in another way than
// Ansible would.
//
// StrictHostKeyChecking=no, which many inventories have, means accept-new
// here, and a UserKnownHostsFile of /dev/null means the default files: there
// is no way to switch host keys off. opts.Warn is told of both. A ProxyCommand
// of the form "ssh … -W %h:%p BASTION" becomes a jump host, so that all hosts
// behind it share one connection, unless it has options that only ssh follows:
// algorithms, a control socket.
func FromVars(name string, vars map[string]any, opts Options) (sshexec.Target, error) {
	r := &varReader{host: name, vars: vars}
	switch c := r.text("ansible_connection"); c {
	case "", "ssh", "smart", "paramiko", "paramiko_ssh", "ansible.builtin.ssh", "ansible.builtin.paramiko_ssh":
	default:
		r.fail("ansible_connection", "fleetd reaches hosts over SSH only, not by %q", c)
	}
	dest := r.text("ansible_ssh_host", "ansible_host")
	if dest == "" {
		dest = name
	}
	o := &sshOptions{}
	args := func(v string) {
		if err := o.addArgs(r.text(v)); err != nil {
			r.fail(v, "%w", err)
		}
		if o.dest != "" {
			r.fail(v, "%q is no option of ssh", o.dest)
		}
	}
	switch exe := r.text("ansible_ssh_executable"); exe {
	case "", "ssh", "/usr/bin/ssh", "/bin/ssh", "/usr/local/bin/ssh":
	default:
		r.fail("ansible_ssh_executable", "fleetd is its own SSH client and cannot call %q", exe)
	}
	args("ansible_ssh_args")
	if n, v := r.get("ansible_ssh_host_key_checking", "ansible_host_key_checking"); v != nil && !r.boolean(n) {
		o.add("stricthostkeychecking", "no")
	}
	o.addNumber("port", r.number(1, 65535, "ansible_ssh_port", "ansible_port"))
	o.add("identityfile", r.text("ansible_ssh_private_key_file", "ansible_private_key_file"))
	o.add("user", r.text("ansible_ssh_user", "ansible_user"))
	for _, name := range strings.Fields(variableNames[differs]) {
		if v := vars[name]; v != nil && v != "" {
			o.warnings = append(o.warnings, name+" is not followed: load the key into an agent (ssh-add, or ssh-add -s for a token's)")
		}
	}
	o.addNumber("connecttimeout", r.number(1, 86400, "ansible_ssh_timeout", "ansible_timeout"))
	args("ansible_ssh_common_args")
	args("ansible_ssh_extra_args")
	password := r.text("ansible_ssh_password", "ansible_ssh_pass", "ansible_password")
	become := r.become()
	if r.err != nil {
		return sshexec.Target{}, r.err
	}
	t, err := o.target(dest, opts, 0)
	if err == nil {
		t.Name, t.Password, t.Become = name, sshexec.Secret(password), become
		err = t.Validate()
	}
	if err != nil {
		return sshexec.Target{}, &sshexec.Error{Host: name, Op: "read the connection variables", Kind: sshexec.KindUsage, Err: err}
	}
	return t, nil
}

// maxJumpDepth bounds jump hosts that have jump hosts in ssh_config, which may
// go in a circle.
const maxJumpDepth = 8

var errCircle = errors.New("jump hosts go in a circle")

// target makes a target of the options and of what ssh_config adds for dest.
func (o *sshOptions) target(dest string, opts Options, depth int) (sshexec.Target, error) {
	if depth > maxJumpDepth {
		return sshexec.Target{}, fmt.Errorf("%w at %s", errCircle, dest)
	}
	warn := opts.Warn
	if warn == nil {
		warn = func(string) {}
	}
	config := opts.SSHConfig
	if config == nil {
		config = NewSSHConfig()
	}
	if err := (sshexec.Target{Address: dest, User: o.get("user")}).Validate(); err != nil {
		return sshexec.Target{}, err // before a Match exec of ssh_config sees it
	}
	if err := o.addConfig(config, dest); err != nil {
		return sshexec.Target{}, err
	}
	for _, w := range o.warnings {
		warn(w)
	}
	t := sshexec.Target{
		Name: dest, Address: dest, User: cmp.Or(o.get("user"), opts.User),
		HostKeyAlias: o.get("hostkeyalias"),
	}
	if h := o.get("hostname"); h != "" {
		t.Address = expandHostName(h, dest)
	}
	if err := t.Validate(); err != nil {
		return sshexec.Target{}, err
	}
	t.Port = o.number("port", 65535)
	t.ConnectTimeout = cmp.Or(time.Duration(o.number("connecttimeout", 86400))*time.Second, opts.ConnectTimeout)
	t.IdentityFiles = o.files("identityfile", o.all("identityfile"), t)
	if t.IdentityFiles == nil {
		t.IdentityFiles = slices.Clone(opts.IdentityFiles)
	}
	t.CertificateFiles = o.files("certificatefile", o.all("certificatefile"), t)
	t.IdentitiesOnly = o.boolean("identitiesonly")
	agent, err := expandPath(o.get("identityagent"), t)
	if err != nil {
		return sshexec.Target{}, err
	}
	if name, variable := strings.CutPrefix(agent, "$"); variable {
		agent = os.Getenv(strings.Trim(name, "{}"))
	}
	t.IdentityAgent = agent
	t.Authentications = o.authentications()
	t.GSSAPI = o.boolean("gssapiauthentication")
	t.AddressFamily = o.family()
	o.hostKeyRules(&t, opts, warn)
	if o.err != nil {
		return sshexec.Target{}, o.err
	}
	return t, o.route(&t, opts, depth)
}

// hostKeyRules reads where and how host keys are checked.
func (o *sshOptions) hostKeyRules(t *sshexec.Target, opts Options, warn func(string)) {
	t.HostKeyPolicy = opts.HostKeyPolicy
	switch v := strings.ToLower(o.get("stricthostkeychecking")); v {
	case "", "ask":
	case "yes", "true":
		t.HostKeyPolicy = sshexec.Strict
	case "accept-new":
		t.HostKeyPolicy = sshexec.AcceptNew
	case "no", "off", "false":
		t.HostKeyPolicy = sshexec.AcceptNew
		warn("StrictHostKeyChecking=" + v + " is read as accept-new: a changed host key is always refused")
	default:
		o.fail("StrictHostKeyChecking=%s is not known", v)
	}
	user, global := o.fileList("userknownhostsfile", *t), o.fileList("globalknownhostsfile", *t)
	if slices.Contains(user, "/dev/null") {
		warn("UserKnownHostsFile=/dev/null is ignored: host keys are checked against the default files")
		user = slices.DeleteFunc(user, func(f string) bool { return f == "/dev/null" })
	}
	t.KnownHosts = slices.Clone(opts.KnownHosts)
	t.RevokedHostKeys = o.fileList("revokedhostkeys", *t)
	if len(user)+len(global) == 0 {
		return
	}
	usual, system := account.KnownHosts()
	if len(user) == 0 {
		user = usual
	}
	if len(global) == 0 {
		global = system
	}
	t.KnownHosts = append(slices.Clone(user), global...)
}

// route reads ProxyJump and ProxyCommand; whichever was set first wins, as in ssh,
// where "ProxyJump none" is no ProxyCommand's rival either.
func (o *sshOptions) route(t *sshexec.Target, opts Options, depth int) error {
	key, value := o.first("proxyjump", "proxycommand")
	if key == "proxyjump" && strings.EqualFold(value, "none") {
		key, value = o.first("proxycommand")
	}
	if value == "" || strings.EqualFold(value, "none") {
		return nil
	}
	if key == "proxycommand" {
		hop, ok := jumpOfCommand(value)
		if !ok {
			t.ProxyCommand = value
			return nil
		}
		jump, err := hop.target(hop.dest, opts, depth+1)
		if errors.Is(err, errCircle) { // each ssh would start another one
			return err
		}
		if err != nil {
			// Only ssh itself can do what this asks for.
			t.ProxyCommand = value
			return nil //nolint:nilerr // see above
		}
		t.ProxyJump = flatten(jump)
		return nil
	}
	value, err := t.Expand(value)
	if err != nil {
		return fmt.Errorf("ProxyJump: %w", err)
	}
	return jumps(value, t, opts, depth)
}

// jumps reads the value of ProxyJump, without its tokens.
func jumps(value string, t *sshexec.Target, opts Options, depth int) error {
	var chain []sshexec.Target
	for i, spec := range strings.Split(value, ",") {
		hop := &sshOptions{}
		if err := hop.setDestination(strings.TrimSpace(spec)); err != nil {
			return fmt.Errorf("ProxyJump: %w", err)
		}
		if strings.EqualFold(hop.dest, t.Name) {
			// "Host *" with a ProxyJump is meant for all hosts but the jump
			// host itself.
			continue
		}
		jump, err := hop.target(hop.dest, opts, depth+1)
		if err != nil {
			return fmt.Errorf("ProxyJump: %w", err)
		}
		if i > 0 {
			// Only the first hop is reached from here by its own route.
			jump.ProxyJump, jump.ProxyCommand = nil, ""
		}
		chain = append(chain, flatten(jump)...)
	}
	t.ProxyJump = chain
	return nil
}

// flatten makes one chain of a hop and the hops before it.
func flatten(hop sshexec.Target) []sshexec.Target {
	before := hop.ProxyJump
	hop.ProxyJump = nil
	return append(slices.Clone(before), hop)
}

// setDestination reads [user@]host[:port] or ssh://[user@]host[:port].
func (o *sshOptions) setDestination(s string) error {
	s = strings.TrimSuffix(strings.TrimPrefix(s, "ssh://"), "/")
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		o.add("user", s[:i])
		s = s[i+1:]
	}
	host := s
	if h, p, err := net.SplitHostPort(s); err == nil && (strings.HasPrefix(s, "[") || strings.Count(s, ":") == 1) {
		port, err := strconv.Atoi(p)
		if err != nil || port < 1 || port > 65535 {
			return fmt.Errorf("%q has a bad port", s)
		}
		host = h
		o.addNumber("port", port)
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if host == "" || strings.HasPrefix(host, "-") || strings.ContainsAny(host, " \t\n'\"`$;&|<>") {
		return fmt.Errorf("%q is no host", s)
	}
	o.dest = host
	return nil
}
