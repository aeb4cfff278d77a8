package inventory_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/inventory/export"
	"github.com/fleetd/fleetd/inventory/source"
	"github.com/fleetd/fleetd/inventory/vault"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
)

// TestPasswordPerEnvironment: an encrypted file is opened when a host's value is
// wanted, so that who works on dev needs no password of prod.
func TestPasswordPerEnvironment(t *testing.T) {
	fsys := fstest.MapFS{
		"hosts":              {Data: []byte("[dev]\nd\n[prod]\np\n")},
		"group_vars/dev.yml": {Data: encryptVault(t, "pw: hush-dev\n", "dev-password")}, "group_vars/prod.yml": {Data: encryptVault(t, "pw: hush-prod\n", "prod-password")},
		"host_vars/p.yml": {Data: encryptVault(t, "- no dictionary\n", "dev-password")},
	}
	load := func(passwords ...string) *inventory.Inventory {
		o := source.Options{}
		for _, p := range passwords {
			o.VaultSecrets = append(o.VaultSecrets, vault.Secret{ID: "default", Password: vault.Password(p)})
		}
		inv, err := inventory.Load(fsys, []string{"hosts"}, inventory.Options{Options: o})
		if err != nil {
			t.Fatal(err)
		}
		return inv
	}
	inv := load("dev-password")
	if got, err := variable(t, inv, "d", "pw").(value.Secret).Reveal(); got != "hush-dev" || err != nil {
		t.Errorf("dev: %q, %v", got, err)
	}
	_, err := inv.Vars("p")
	if !errors.Is(err, vault.ErrWrongPassword) || !strings.HasPrefix(fmt.Sprint(err), "group_vars/prod.yml:1:1: cannot decrypt") {
		t.Errorf("prod: %v", err)
	}
	var b bytes.Buffer
	if err := export.List(&b, inv, export.Options{Only: []string{"d"}}); err != nil || !strings.Contains(b.String(), `"d"`) {
		t.Errorf("dev alone: %v\n%s", err, b.String())
	}
	if err := export.List(&b, inv, export.Options{}); !errors.Is(err, vault.ErrWrongPassword) {
		t.Errorf("all: %v", err)
	}
	// What else is wrong with it is told then, too.
	var e *text.Error
	if _, err := load("dev-password", "prod-password").Vars("p"); !errors.As(err, &e) || e.Place.String() != "host_vars/p.yml:1:1" {
		t.Errorf("got %v", err)
	}
	// The digest is of what lies on the disk, whoever can read it.
	if files := load().Files(); len(files) != 4 {
		t.Errorf("read %v", files)
	}
}

// forbidden is a file system in which nobody may look at some paths.
type forbidden struct {
	fs.FS
	path string
}

func (f forbidden) Open(name string) (fs.File, error) {
	if name == f.path {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return f.FS.Open(name)
}

// TestUnreadableVariables: variables that cannot be looked at are not taken for
// missing.
func TestUnreadableVariables(t *testing.T) {
	fsys := fstest.MapFS{
		"hosts": {Data: []byte("[web]\na\n")}, "elsewhere/web.yml": {Data: []byte("x: 1\n")}, "group_vars/web.yml": {Data: []byte("../elsewhere/web.yml"), Mode: fs.ModeSymlink},
		"group_vars/gone.yml": {Data: []byte("../nowhere"), Mode: fs.ModeSymlink}, "host_vars/a/1.yml": {Data: []byte("y: 1\n")},
	}
	if inv, err := inventory.Load(fsys, []string{"hosts"}, inventory.Options{}); err != nil || variable(t, inv, "a", "x") != int64(1) {
		t.Fatalf("a link is not followed: %v", err)
	}
	for _, p := range []string{"group_vars", "group_vars/web.yml", "host_vars/a", "host_vars/a/1.yml"} {
		_, err := inventory.Load(forbidden{fsys, p}, []string{"hosts"}, inventory.Options{})
		if !errors.Is(err, fs.ErrPermission) || !strings.HasPrefix(fmt.Sprint(err), p+": cannot read") {
			t.Errorf("%s: %v", p, err)
		}
	}
}

// TestOrder: a dictionary keeps the order that it is written in, and keys that
// Python finds equal are one, whatever the source.
func TestOrder(t *testing.T) {
	fsys := fstest.MapFS{
		"hosts":                 {Data: []byte("h ini=\"{'z': 1, 'a': {'y': 2, 'b': 3}}\"\n")},
		"more.yml":              {Data: []byte("all:\n  hosts:\n    h:\n      yaml: {z: 1, a: {y: 2, b: 3}}\n      same: {1: a, true: b, 1.0: c}\n")},
		"saved.json":            {Data: []byte(`{"all": {"hosts": ["h"]}, "_meta": {"hostvars": {"h": {"json": {"z": 1, "a": {"y": 2, "b": 3}}}}}}`)},
		"host_vars/h":           {Data: []byte("base: &b {z: 0, a: {y: 2, b: 3}}\nmerged: {<<: *b, z: 1}\n")},
		"group_vars/all/1.yml":  {Data: []byte("first: {k: 1}\n")},
		"group_vars/all/2.json": {Data: []byte(`{"file": {"z": 1, "a": {"y": 2, "b": 3}}}`)},
	}
	inv, err := inventory.Load(fsys, []string{"hosts", "more.yml", "saved.json"}, inventory.Options{ExtraVars: []string{`{"extra": {"z": 1, "a": {"y": 2, "b": 3}}}`}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ini", "yaml", "json", "merged", "file", "extra"} {
		if got := value.Repr(variable(t, inv, "h", name)); got != "{'z': 1, 'a': {'y': 2, 'b': 3}}" {
			t.Errorf("%s is %s", name, got)
		}
	}
	if got := value.Repr(variable(t, inv, "h", "same")); got != "{1: 'c'}" {
		t.Errorf("same is %s", got)
	}
}

// TestOneLineJSON: of an error far behind in one long line the column is right.
func TestOneLineJSON(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"é": {"hosts": [`)
	for i := range 20000 {
		fmt.Fprintf(&b, `"h%d", `, i)
	}
	at := len([]rune(b.String())) + 1
	b.WriteString(`1]}}`)
	_, err := inventory.Load(fstest.MapFS{"saved.json": {Data: []byte(b.String())}}, []string{"saved.json"}, inventory.Options{})
	var e *text.Error
	if !errors.As(err, &e) || e.Line != 1 || e.Column != at {
		t.Errorf("got %v, want column %d", err, at)
	}
}
