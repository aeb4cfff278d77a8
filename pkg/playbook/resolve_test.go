package playbook

import (
	"errors"
	"strings"
	"testing"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// vaulted is a value that came out of a vault, or could not be got out.
type vaulted struct {
	text string
	err  error
}

func (v vaulted) Value() (any, error)     { return v.text, v.err }
func (v vaulted) Reveal() (string, error) { return v.text, v.err }

func TestResolver(t *testing.T) {
	inv := &fakeInventory{hosts: []string{"web1", "web2"}, vars: map[string]map[string]any{
		"all": {
			"domain": "example.org", "ansible_host": "{{ inventory_hostname }}.{{ domain }}", "ansible_port": "{{ port | default(22) }}",
			"ansible_become_password": "{{ vault_become }}", "vault_become": vaulted{text: "{{ s3cret }}"}, "ansible_password": vaulted{text: "direct"},
			"ansible_user": "{{ usr }}", "user": "centos", "ansible_ssh_extra_args": "{{ omit }}", "ansible_sftp": vaulted{err: errors.New("no vault password was given")},
			"ansible_ssh_pass": "x{{ ansible_sftp }}", "jump": "{{ hostvars['web2'].ansible_host }}", "loop": "{{ loop }}",
		},
		"web1": {"port": 2222},
	}}
	r, err := NewResolver(inv, vars(map[string]any{"domain": "example.com"}))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		host, name string
		want       any
		err        string
	}{
		{"web1", "ansible_host", "web1.example.com", ""},
		{"web2", "ansible_host", "web2.example.com", ""},
		{"web1", "ansible_port", "2222", ""},
		{"web2", "ansible_port", "22", ""},
		{"web1", "ansible_become_password", "{{ s3cret }}", ""}, // what a vault holds is no template
		{"web1", "ansible_password", "direct", ""},
		{"web1", "jump", "web2.example.com", ""},
		{"web1", "ansible_user", nil, "did you mean user?"},
		{"web1", "ansible_ssh_extra_args", nil, ""},
		{"web1", "ansible_nothing", nil, ""},
		{"web1", "ansible_sftp", nil, `variable "ansible_sftp": no vault password was given`},
		{"web1", "ansible_ssh_pass", nil, "no vault password was given"},
		{"web1", "loop", nil, "refers to itself"},
		{"nobody", "ansible_host", nil, ""},
	} {
		v, ok, err := r.Variable(tc.host, tc.name)
		switch {
		case tc.err != "":
			if err == nil || !strings.Contains(err.Error()+" "+rollout.AsProblem(err).Hint, tc.err) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%s of %s: error %v, want %q", tc.name, tc.host, err, tc.err)
			}
		case err != nil || ok != (tc.want != nil) || v != tc.want:
			t.Errorf("%s of %s is %#v, %v, %v; want %#v", tc.name, tc.host, v, ok, err, tc.want)
		}
	}
}
