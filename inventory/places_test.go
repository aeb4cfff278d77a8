package inventory_test

import (
	"context"
	"testing"
	"testing/fstest"

	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/inventory/source"
	"github.com/fleetd/fleetd/inventory/vault"
)

// TestPlaces: the place is that of the value which Vars shows.
func TestPlaces(t *testing.T) {
	fsys := fstest.MapFS{
		"hosts.ini":          {Data: []byte("[web]\n  a ansible_host=10.0.0.1  é=x port=22 # c\nn[1:2] port=23\n[web:vars]\n user = u\nlate=1\n[dyn:vars]\nd=1\n[dyn]\na\n[all:vars]\nuser=low\neverywhere=1\n")},
		"more.yml":           {Data: []byte("web:\n  vars:\n    late: 2\n    tpl: &t {t: 1}\n  hosts:\n    b:\n      <<: *t\n      ansible_host: \"\"\n    c: *t\n")},
		"list.json":          {Data: []byte("{\"web\": {\"hosts\": [\"a\"], \"vars\": {\"js\": 1}},\n \"_meta\": {\"hostvars\": {\"a\":\n  {\"jh\": 2}}}}")},
		"dyn.sh":             {Data: []byte("#!/bin/sh\n"), Mode: 0o755},
		"group_vars/all.yml": {Data: []byte("---\nfile: 1\nboth: 1\n")}, "group_vars/web/1.yml": {Data: []byte("both: 2\none: 1\n")}, "group_vars/web/2.json": {Data: []byte("{\"both\": 3}")},
		"host_vars/a.yml": {Data: []byte("\n\nhv: 1\nuser: 2\n")}, "play/host_vars/a": {Data: []byte("hv: 2\n")}, "play/group_vars/web.yml": {Data: []byte("{one: 2}\n")},
		"extra.yml": {Data: []byte("x: 1\ny: 2\n")}, "secret.yml": {Data: encryptVault(t, "a: 1\npw: 2\n", "pw1")},
	}
	ran := 0
	inv, err := inventory.Load(fsys, []string{"hosts.ini", "more.yml", "list.json", "dyn.sh"}, inventory.Options{
		PlaybookDir: "play", ExtraVars: []string{"@extra.yml", "y=3", "@secret.yml"},
		Options: source.Options{VaultSecrets: []vault.Secret{{ID: "default", Password: "pw1"}}, RunScript: func(context.Context, string, ...string) ([]byte, string, error) {
			ran++
			return []byte(`{"dyn": {"hosts": ["a", "s"]}, "_meta": {"hostvars": {"s": {"only": 1}}}}`), "", nil
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ host, variable, want string }{
		{"a", "ansible_host", "hosts.ini:2:5"}, {"a", "port", "hosts.ini:2:32"}, {"n2", "port", "hosts.ini:3:8"},
		{"n1", "user", "hosts.ini:5:2"}, {"a", "user", "host_vars/a.yml:4:1"}, {"s", "user", "hosts.ini:12:1"}, {"a", "late", "more.yml:3:5"}, {"a", "d", "hosts.ini:8:1"},
		{"b", "t", "more.yml:4:14"}, {"c", "t", "more.yml:4:14"}, {"b", "ansible_host", "more.yml:8:7"},
		{"a", "js", "list.json:1:35"}, {"a", "jh", "list.json:3:4"},
		{"b", "file", "group_vars/all.yml:2:1"}, {"b", "both", "group_vars/web/2.json:1:2"}, {"b", "one", "play/group_vars/web.yml:1:2"},
		{"a", "hv", "play/host_vars/a:1:1"}, {"a", "x", "extra.yml:1:1"}, {"a", "y", "extra vars"}, {"a", "pw", "secret.yml:2:1"},
		{"localhost", "everywhere", "hosts.ini:13:1"},
		{"s", "only", "dyn.sh --list:1:61"}, {"a", "nothing", ""}, {"a", "inventory_hostname", ""}, {"nobody", "x", ""},
	} {
		vars, err := inv.Vars(c.host)
		if err != nil {
			t.Fatal(err)
		}
		if got := vars.At(c.variable).String(); got != c.want {
			t.Errorf("%s of %s is set at %q, want %q", c.variable, c.host, got, c.want)
		}
	}
	if ran != 1 {
		t.Errorf("the script ran %d times", ran)
	}
}
