package config

import "testing"

func TestSecretVariables(t *testing.T) {
	// As the plugins' documentation names them.
	for _, name := range []string{
		"ansible_password", "ansible_ssh_pass", "ansible_ssh_password", "ansible_paramiko_pass", "ansible_paramiko_password",
		"ansible_libssh_pass", "ansible_libssh_password", "ansible_winrm_pass", "ansible_winrm_password",
		"ansible_private_key", "ansible_ssh_private_key", "ansible_private_key_passphrase", "ansible_ssh_private_key_passphrase", "ansible_private_key_password",
		"ansible_become_pass", "ansible_become_password", "ansible_sudo_pass", "ansible_sudo_password", "ansible_su_pass", "ansible_su_password",
		"ansible_doas_pass", "ansible_dzdo_pass", "ansible_enable_pass", "ansible_ksu_pass", "ansible_ksusu_pass", "ansible_machinectl_pass",
		"ansible_pbrun_pass", "ansible_pfexec_pass", "ansible_pmrun_pass", "ansible_runas_pass", "ansible_sesu_pass",
		"ansible_httpapi_pass", "ansible_httpapi_password", "ansible_httpapi_session_key", "ansible_vmware_tools_password",
		"ansible_kubectl_password", "ansible_kubectl_token", "ansible_kubectl_api_key", "ansible_aws_ssm_secret_access_key", "ansible_aws_ssm_session_token",
	} {
		if !secretVariable.MatchString(name) {
			t.Errorf("%s is not known", name)
		}
	}
	for _, name := range []string{"", "ansible_user", "ansible_ssh_private_key_file", "ansible_private_key_file", "password", "db_password", "ansible_become", "ANSIBLE_PASSWORD", "ansible_passwords"} {
		if secretVariable.MatchString(name) {
			t.Errorf("%q is no secret", name)
		}
	}
}

func TestSecretVariableIn(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "",
		"a=1 b=2":                             "",
		"ansible_password=x":                  "ansible_password",
		"a=1 ansible_ssh_pass='x y'":          "ansible_ssh_pass",
		"ansible_ssh_pass = x":                "ansible_ssh_pass",
		"a=1\n\tansible_become_password=x":    "ansible_become_password",
		`"ansible_password"=x`:                "ansible_password",
		"'ansible_sudo_pass=x'":               "ansible_sudo_pass",
		`ansible_passw\x6frd=x`:               "ansible_password",
		`{"ansible_password": "x"}`:           "ansible_password",
		`{"a":1,"ansible_password":"x"}`:      "ansible_password",
		"{ \"ansible_password\"\n\t: \"x\" }": "ansible_password",
		`{"\u0061nsible_password": "x"}`:      "ansible_password",
		`{"\U00000061nsible_password": "x"}`:  "ansible_password",
		`{"all": {"ansible_su_pass": "x"}}`:   "ansible_su_pass",
		"{ansible_password: x}":               "ansible_password",
		"{'ansible_password' : x}":            "ansible_password",
		"{? ansible_password : x}":            "ansible_password",
		"{!!str ansible_password: x}":         "ansible_password",
		"{&a ansible_private_key: x}":         "ansible_private_key",
		"[{ansible_kubectl_token: x}]":        "ansible_kubectl_token",
		"ansible_ssh_private_key_file=~/key":  "",
		"my_ansible_password=x":               "",
		"ansible_password_file=x":             "",
		"db_password=x ansible_user=root":     "",
		`{"\uffff": 1, "\UFFFFFFFF": 2}`:      "",
		"x=ansible_become_pass":               "ansible_become_pass",
		"ansible_host=é-ansible_password":     "ansible_password",
	} {
		if got := SecretVariableIn(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
