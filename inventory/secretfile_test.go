package inventory_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/inventory/export"
	"github.com/fleetd/fleetd/inventory/source"
	"github.com/fleetd/fleetd/inventory/vault"
	"github.com/fleetd/fleetd/pkg/value"
)

// encryptVault writes a vault as ansible-vault does, but always with the same
// salt: nothing here is worth hiding.
func encryptVault(t *testing.T, plain string, password string) []byte {
	t.Helper()
	salt := bytes.Repeat([]byte("fleetd.."), 4)
	key, err := pbkdf2.Key(sha256.New, password, salt, 10000, 2*32+aes.BlockSize)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key[:32])
	if err != nil {
		t.Fatal(err)
	}
	n := aes.BlockSize - len(plain)%aes.BlockSize
	body := append([]byte(plain), bytes.Repeat([]byte{byte(n)}, n)...)
	cipher.NewCTR(block, key[64:]).XORKeyStream(body, body)
	mac := hmac.New(sha256.New, key[32:64])
	mac.Write(body)
	inner := hex.EncodeToString(salt) + "\n" + hex.EncodeToString(mac.Sum(nil)) + "\n" + hex.EncodeToString(body)
	return []byte("$ANSIBLE_VAULT;1.1;AES256\n" + hex.EncodeToString([]byte(inner)) + "\n")
}

// everyOutput is all that can be printed of an inventory.
func everyOutput(t *testing.T, inv *inventory.Inventory, host string) string {
	t.Helper()
	var b bytes.Buffer
	for _, o := range []export.Options{{}, {Export: true}} {
		if err := errors.Join(export.List(&b, inv, o), export.YAML(&b, inv, o), export.Graph(&b, inv, "", true, o),
			export.Host(&b, inv, host, false, o), export.Host(&b, inv, host, true, o)); err != nil {
			t.Fatal(err)
		}
	}
	m, raw := value.Plain(vars(t, inv, host)), any(vars(t, inv, host))
	fmt.Fprintf(&b, "%v %+v %#v %v\n%v\n", m, m, m, raw, inv.Warnings())
	return b.String()
}

// TestEncryptedFiles: of a file that is encrypted as a whole no value is
// shown, whatever its kind and wherever it stands.
func TestEncryptedFiles(t *testing.T) {
	for name, c := range map[string]struct {
		file, text string
		vars       map[string]any // what the secrets are
	}{
		"strings":    {"group_vars/all", "a: hush1\nb: 'hush2'\nc: |\n  hush3\n", map[string]any{"a": "hush1", "b": "hush2", "c": "hush3\n"}},
		"numbers":    {"group_vars/all", "a: 4711\nb: 47.11\nc: 471147114711471147114711\n", map[string]any{"a": int64(4711), "b": 47.11}},
		"dates":      {"group_vars/all", "a: 4711-01-02\nb: 4711-01-02 03:04:05\n", map[string]any{}},
		"binary":     {"group_vars/all", "a: !!binary aHVzaDE=\n", map[string]any{}},
		"nested":     {"group_vars/all", "n: {l: [hush1, {d: hush2}], m: [[4711]]}\n", nil},
		"unsafe":     {"group_vars/all", "a: !unsafe 'hush1 {{ x }}'\nb: !unsafe [hush2]\nc: !unsafe {d: hush3}\n", map[string]any{"a": value.Unsafe("hush1 {{ x }}")}},
		"anchors":    {"group_vars/all", "a: &a hush1\nb: *a\nc: &c {x: hush2}\nd: {<<: *c}\n", map[string]any{"a": "hush1", "b": "hush1"}},
		"JSON":       {"group_vars/all.json", `{"a": "hush1", "b": [4711, "hush2"], "c": 47.11}`, map[string]any{"a": "hush1"}},
		"host_vars":  {"host_vars/h.yml", "a: hush1\n", map[string]any{"a": "hush1"}},
		"extra vars": {"extra.yml", "a: hush1\nl: [hush2]\n", map[string]any{"a": "hush1"}},
		"INI":        {"more.ini", "h a=hush1 n=4711 f=47.11\n[all:vars]\nb='hush2'\nl=['hush3', ('hush4', {'k': 'hush5'})]\nu = b'hush6'\n", map[string]any{"a": "hush1", "n": int64(4711), "b": "hush2"}},
		"YAML":       {"more.yml", "all:\n  hosts:\n    h: {a: hush1}\n  vars: {l: [hush2], ansible_group_priority: 7}\n", map[string]any{"a": "hush1"}},
		"saved list": {"more.json", `{"_meta": {"hostvars": {"h": {"a": "hush1"}}}, "g": {"hosts": ["h"], "vars": {"l": ["hush2"]}}}`, map[string]any{"a": "hush1"}},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := fstest.MapFS{"hosts": {Data: []byte("h\n")}, c.file: {Data: encryptVault(t, c.text, "pw1")}}
			sources, opts := []string{"hosts"}, inventory.Options{Options: source.Options{VaultSecrets: []vault.Secret{{ID: "default", Password: "pw1"}}}}
			switch {
			case strings.HasPrefix(c.file, "more"):
				sources = append(sources, c.file)
			case strings.HasPrefix(c.file, "extra"):
				opts.ExtraVars = []string{"@" + c.file}
			}
			inv, err := inventory.Load(fsys, sources, opts)
			if err != nil {
				t.Fatal(err)
			}
			out := everyOutput(t, inv, "h")
			for _, secret := range []string{"hush", "4711", "47.11", "aHVzaD"} {
				if strings.Contains(out, secret) {
					t.Errorf("%q is shown:\n%s", secret, out)
				}
			}
			for k, want := range c.vars {
				s, ok := variable(t, inv, "h", k).(value.Secret)
				if !ok {
					t.Errorf("%s is %T, no secret", k, variable(t, inv, "h", k))
					continue
				}
				if got, err := s.Value(); err != nil || got != want {
					t.Errorf("%s is %#v, %v; want %#v", k, got, err, want)
				}
			}
		})
	}
}

// TestEncryptedErrors: an error in an encrypted file tells the place and the
// cause, and nothing of the text.
func TestEncryptedErrors(t *testing.T) {
	for file, texts := range map[string][]string{
		"group_vars/all.yml": {
			"a: *hush\n", "a: !hush x\n", "a: !hush!x y\n", "a: &hush x\nb: &hush y\n", "a: \"hush\n", "a: 'hush\n", "a: \"hush\\q\"\n",
			"a: hush: b\n", "a: [hush\n", "a: {hush: 1\n", "hush\nb: c\n", "- hush\n", "hush\n", "a: @hush\n", "a: `hush`\n", "a: %hush\n",
			"a: !!int hush\n", "a: !!float hush\n", "a: !!binary hush!\n", "a: !<hush\n", "a: !!timestamp hush\n", "\ta: hush\n", "a:\n- hush\n b\n",
			"a: hush\n---\nb: hush\n", "a: hush\x07\n", "{{ hush }}: x\n", "a: |hush\n", "a: 1:hush:\n", "? [hush]\n: x\n", "a: x\n<<: hush\n", "%hush\n---\na: b\n", "a: 2001-99-99 # hush\n", "a: 0b #hush\n",
		},
		"group_vars/all.json": {`{"a": "hush`, `{"a": hush}`, `["hush"]`, `"hush"`, `{"a": "hush\q"}`, `{"a": "hush" "b"}`, `{"hush" 1}`},
		"more.ini": {
			"h a='hush\n", "h hush\n", "h a=1 hush\n", "[all:vars]\nhush\n", "[all:vars]\na=[hush\n", "[all:vars]\na={'hush': [1]}[0]\n", "[all:vars]\na={[1]: 'hush'}\n", "h a=\"{[1]: 'hush'}\"\n", "h a=hush\\\n",
			"[all:vars]\nansible_group_priority=hush\n", "[g:children]\nx hush\n", "h a=gr\xfchush\n",
		},
		"more.yml":  {"all: [hush]\n", "all:\n  hosts: [hush]\n", "all:\n  hosts:\n    h: hush\n", "all:\n  vars: {ansible_group_priority: hush}\n", "plugin: hush\n", "all: hush\n"},
		"more.json": {`{"_meta": {"hostvars": {"h": "hush"}}, "g": ["h"]}`, `{"g": {"hosts": "hush", "children": ["x"]}}`, `{"g": {"vars": "hush", "hosts": ["h"]}}`, `{"g": ["h"], "_meta": {"hostvars": "hush"}}`},
	} {
		for _, text := range texts {
			fsys := fstest.MapFS{"hosts": {Data: []byte("h\n")}, file: {Data: encryptVault(t, text, "pw1")}}
			sources := []string{"hosts"}
			if strings.HasPrefix(file, "more") {
				sources = append(sources, file)
			}
			inv, err := inventory.Load(fsys, sources, inventory.Options{Options: source.Options{VaultSecrets: []vault.Secret{{ID: "default", Password: "pw1"}}}})
			if err == nil {
				_, err = inv.Vars("h")
			}
			if err == nil {
				if out := everyOutput(t, inv, "h"); strings.Contains(out, "hush") {
					t.Errorf("%s %q is read and shown:\n%s", file, text, out)
				}
				continue
			}
			if strings.Contains(err.Error(), "hush") {
				t.Errorf("%s %q is told: %v", file, text, err)
			}
			if !strings.HasPrefix(err.Error(), file+":") {
				t.Errorf("%s %q: no place: %v", file, text, err)
			}
		}
	}
}
