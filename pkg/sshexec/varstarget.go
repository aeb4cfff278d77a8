package sshexec

import "time"

// TargetFromVars makes a target of a host's Ansible connection variables:
// ansible_host, _port, _user, _password, ansible_ssh_private_key_file,
// ansible_ssh_args, _common_args and _extra_args, ansible_timeout,
// ansible_become_method, _user, _password, _exe and _flags, and their older
// names. It is pure, but for reading ssh_config when opts ask for it. An
// argument or option of ssh that fleetd does not know is an error: a host must
// not silently be reached in another way than Ansible would.
func TargetFromVars(name string, vars map[string]any, opts VarOptions) (Target, error) {
	r := &varReader{host: name, vars: vars}
	t := Target{Name: name, KnownHosts: opts.KnownHosts, HostKeyPolicy: opts.HostKeyPolicy}
	t.Address = r.text("ansible_host", "ansible_ssh_host")
	if t.Address == "" {
		t.Address = name
	}
	t.Port = r.number(1, 65535, "ansible_port", "ansible_ssh_port")
	t.User = r.text("ansible_user", "ansible_ssh_user")
	t.Password = Secret(r.text("ansible_password", "ansible_ssh_pass", "ansible_ssh_password"))
	if f := r.text("ansible_ssh_private_key_file", "ansible_private_key_file"); f != "" {
		t.IdentityFiles = []string{expandHome(f)}
	}
	if s := r.number(1, 86400, "ansible_ssh_timeout", "ansible_timeout"); s > 0 {
		t.ConnectTimeout = time.Duration(s) * time.Second
	}
	t.Become = Become{
		Method:   r.text("ansible_become_method"),
		User:     r.text("ansible_become_user"),
		Password: Secret(r.text("ansible_become_password", "ansible_become_pass", "ansible_sudo_pass", "ansible_su_pass")),
		Exe:      r.text("ansible_become_exe"),
	}
	switch c := r.text("ansible_connection"); c {
	case "", "ssh", "smart", "paramiko", "paramiko_ssh", "ansible.builtin.ssh":
	default:
		r.fail("ansible_connection", "fleetd reaches hosts over SSH only, not by %q", c)
	}
	if r.err != nil {
		return Target{}, r.err
	}
	if err := t.Become.validate(); err != nil {
		return Target{}, &Error{Host: name, Op: "read the become variables", Kind: KindUsage, Err: err}
	}
	return t, nil
}
