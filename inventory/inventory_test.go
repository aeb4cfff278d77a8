package inventory_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/inventory/export"
	"github.com/fleetd/fleetd/inventory/source"
	"github.com/fleetd/fleetd/pkg/value"
)

var fleet = fstest.MapFS{
	"hosts": {Data: []byte(`lone
[web]
web1.example.org ansible_host=10.0.0.1
web2 nested="{'a': [1]}"
[db]
web2
[empty]
[top:children]
web
db
`)},
	"group_vars/all.yml":   {Data: []byte("shared: {list: [1, {b: c}]}\nday: 2020-01-02\n")},
	"group_vars/empty.yml": {Data: []byte("e: 1\n")},
	"host_vars/web2.yml":   {Data: []byte("own: true\n")},
	"play/group_vars/web":  {Data: []byte("from: play\n")},
}

func TestVars(t *testing.T) {
	inv, err := inventory.Load(fleet, []string{"hosts"}, inventory.Options{Options: source.Options{Root: "/srv"}, PlaybookDir: "play", ExtraVars: []string{"x=1"}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"shared": map[string]any{"list": []any{int64(1), map[string]any{"b": "c"}}}, "day": "2020-01-02",
		"nested": map[string]any{"a": []any{int64(1)}}, "own": true, "from": "play", "x": "1",
		"inventory_hostname": "web2", "inventory_hostname_short": "web2", "group_names": []any{"db", "top", "web"},
		"inventory_file": "/srv/hosts", "inventory_dir": "/srv", "playbook_dir": "/srv/play",
		"groups": map[string]any{
			"all": []any{"lone", "web1.example.org", "web2"}, "ungrouped": []any{"lone"}, "empty": []any{},
			"web": []any{"web1.example.org", "web2"}, "db": []any{"web2"}, "top": []any{"web1.example.org", "web2"},
		},
	}
	if d := cmp.Diff(want, value.Plain(vars(t, inv, "web2"))); d != "" {
		t.Errorf("web2 (-want +got):\n%s", d)
	}
	if got := variable(t, inv, "web1.example.org", "inventory_hostname_short"); got != "web1" {
		t.Errorf("short name is %v", got)
	}
	if vars(t, inv, "nobody") != nil {
		t.Error("an unknown host has variables")
	}
	local := value.Plain(vars(t, inv, "localhost")).(map[string]any)
	if local["ansible_connection"] != "local" || local["day"] != "2020-01-02" || local["x"] != "1" {
		t.Errorf("localhost: %v", local)
	}
	if got := variable(t, inv, "127.0.0.1", "inventory_hostname"); got != "127.0.0.1" {
		t.Errorf("127.0.0.1 is named %v", got)
	}
	g, ok := inv.Group("top")
	if d := cmp.Diff(inventory.Group{Name: "top", Hosts: []string{}, Children: []string{"web", "db"}, Parents: []string{"all"}, Depth: 1, Priority: 1}, g); d != "" || !ok {
		t.Errorf("group top (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"all", "ungrouped", "web", "db", "empty", "top"}, inv.Groups()); d != "" {
		t.Errorf("groups (-want +got):\n%s", d)
	}
}

// TestVarsAreTheCallers: changing what Vars returned changes nothing for others.
func TestVarsAreTheCallers(t *testing.T) {
	inv, err := inventory.Load(fleet, []string{"hosts"}, inventory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	vars(t, inv, "web2").Set("own", "changed")
	if got := variable(t, inv, "web2", "own"); got != true {
		t.Errorf("got %v", got)
	}
}

func vars(t *testing.T, inv *inventory.Inventory, host string) *value.Map {
	t.Helper()
	m, err := inv.Vars(host)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func variable(t *testing.T, inv *inventory.Inventory, host, name string) any {
	t.Helper()
	v, _ := vars(t, inv, host).Get(name)
	return v
}

// TestConcurrent is for the race detector.
func TestConcurrent(t *testing.T) {
	inv, err := inventory.Load(fleet, []string{"hosts"}, inventory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for _, h := range append(inv.Hosts(), "localhost") {
				if _, err := inv.Vars(h); err != nil {
					t.Error(err)
				}
			}
			if _, err := inv.Match(fmt.Sprintf("web:no%d", i)); err != nil {
				t.Error(err)
			}
			var b bytes.Buffer
			if err := export.List(&b, inv, export.Options{Export: i%2 == 0}); err != nil {
				t.Error(err)
			}
			_ = inv.Warnings()
		})
	}
	wg.Wait()
	if n := len(inv.Warnings()); n != 8 {
		t.Errorf("%d warnings, want 8", n)
	}
}

// TestWarnings: what Ansible accepts with a warning is accepted with one.
func TestWarnings(t *testing.T) {
	for name, c := range map[string]struct {
		file, data, want string
	}{
		"duplicate key":  {"i.yml", "all:\n  vars:\n    a: 1\n    a: 2\n", "i.yml:4:5: the key a stands twice in this dictionary, the last value is used"},
		"odd group name": {"hosts", "[web-1]\na\n", `hosts: group name "web-1" has characters that are not valid in a variable name; it is kept as it is`},
		"unknown key":    {"i.yml", "all:\n  host:\n    a: {}\n", "i.yml:2:3: host of group all is skipped: only vars, children and hosts may stand here"},
		"no dictionary":  {"i.yml", "all:\n  x: 1\nweb: text\n", "i.yml:2:3: x of group all is skipped: it is a whole number, not a dictionary"},
		"same name":      {"hosts", "[web]\nweb\n", "both a group and a host are named web: variables meant for the host go to the group"},
		"two localhosts": {"hosts", "localhost\n127.0.0.1\n", "hosts: a second host that stands for localhost was found (127.0.0.1), the first is localhost"},
	} {
		t.Run(name, func(t *testing.T) {
			inv, err := inventory.Load(fstest.MapFS{c.file: {Data: []byte(c.data)}}, []string{c.file}, inventory.Options{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, w := range inv.Warnings() {
				got = append(got, w.String())
			}
			if len(got) == 0 || got[0] != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
