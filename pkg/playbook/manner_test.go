package playbook_test

import (
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/pkg/playbook"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// Keywords are handed down, the innermost counts, and a host's own variable wins over
// whom the keyword says to become.
func TestManner(t *testing.T) {
	fsys := fstest.MapFS{
		"hosts": {Data: []byte("a\nb ansible_become_user=dba\n")},
		"site.yml": {Data: []byte(`
- hosts: all
  become: true
  become_user: app
  become_method: su
  become_flags: -l
  throttle: 5
  tasks:
    - command: one
    - become_user: "{{ inventory_hostname }}-user"
      throttle: 2
      timeout: 90
      no_log: true
      block:
        - command: two
        - command: three
          become_user: ""
          become_exe: doas
          become_flags: ""
          no_log: false
          delegate_to: b
          run_once: true
`)},
	}
	params := map[string]rollout.Params{"ansible.builtin.command": {"cmd": {Type: rollout.String, FreeForm: true}}}
	inv, err := inventory.Load(fsys, []string{"hosts"}, inventory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	pb, err := playbook.Load(fsys, "site.yml", playbook.Options{Modules: params})
	if err != nil {
		t.Fatal(err)
	}
	d, _, err := pb.Compile(inv, params, playbook.CompileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		as     map[string]rollout.BecomeAs
		on     map[string]string
		manner rollout.Manner
	}{
		{map[string]rollout.BecomeAs{"a": {User: "app", Method: "su", Flags: "-l"}, "b": {Method: "su", Flags: "-l"}}, map[string]string{}, rollout.Manner{Throttle: 5}},
		{map[string]rollout.BecomeAs{"a": {User: "a-user", Method: "su", Flags: "-l"}, "b": {Method: "su", Flags: "-l"}}, map[string]string{}, rollout.Manner{Throttle: 2, Timeout: 90 * time.Second, NoLog: true}},
		{map[string]rollout.BecomeAs{"a": {Exe: "doas", Method: "su"}, "b": {Exe: "doas", Method: "su"}}, map[string]string{"a": "b"}, rollout.Manner{Throttle: 2, Timeout: 90 * time.Second, Once: true}},
	}
	for i, w := range want {
		task := d.Plays[0].Tasks[i]
		if d := cmp.Diff(w.as, task.BecomeAs) + cmp.Diff(w.on, task.On) + cmp.Diff(w.manner, task.Manner); d != "" {
			t.Errorf("task %d (-want +got)\n%s", i, d)
		}
		if !task.Become {
			t.Errorf("task %d becomes nobody", i)
		}
	}
}
