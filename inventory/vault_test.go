package inventory

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/fstest"

	"gopkg.in/yaml.v3"
)

// Made with ansible-vault: "hunter2", password pw1.
const vault11 = `$ANSIBLE_VAULT;1.1;AES256
39636166383735306165363762653735343635373038336238393163636165613364306163383435
6536353862393433396133346165386534383733346130300a643763356137356633663463623563
31643433386637663839393837623130336564343630376535373261623166396461363165336136
3866336663663262330a303364303666343431353732326232356664383934633638323661393766
3433
`

// "Größe", label prod, password pw2.
const vault12 = `$ANSIBLE_VAULT;1.2;AES256;prod
37323565333262663537333231383466303163336462353064376339613361643037353563306436
3939303761323138623266316333303662643336636666340a393063636163313333313139356636
32343665626438656333643233613836356466306663346238383134616437616263326536333566
3135623564643837620a303831316533313437306562636336653666633139386130376162376164
6464
`

func TestVaultDecrypt(t *testing.T) {
	both := []VaultSecret{{"default", "pw1"}, {"prod", "pw2"}}
	for name, c := range map[string]struct {
		data    string
		secrets []VaultSecret
		want    string
		err     error
	}{
		"1.1":                          {vault11, both, "hunter2", nil},
		"1.2":                          {vault12, both, "Größe", nil},
		"label does not matter":        {vault12, []VaultSecret{{"other", "pw2"}}, "Größe", nil},
		"second password":              {vault11, []VaultSecret{{"a", "no"}, {"b", "pw1"}}, "hunter2", nil},
		"windows line ends":            {strings.ReplaceAll(vault11, "\n", "\r\n"), both, "hunter2", nil},
		"no password":                  {vault11, nil, "", ErrVaultNoPassword},
		"wrong password":               {vault11, []VaultSecret{{"default", "pw2"}}, "", ErrVaultWrongPassword},
		"empty":                        {"", both, "", ErrVaultFormat},
		"only a header":                {"$ANSIBLE_VAULT;1.1;AES256\n", both, "", ErrVaultFormat},
		"short header":                 {"$ANSIBLE_VAULT\n6162\n", both, "", ErrVaultFormat},
		"cut":                          {vault11[:len(vault11)-40], both, "", ErrVaultFormat},
		"cut by a digit":               {vault11[:len(vault11)-2], both, "", ErrVaultFormat},
		"another cipher":               {strings.Replace(vault11, "AES256", "AES", 1), both, "", ErrVaultFormat},
		"not hexadecimal":              {strings.Replace(vault11, "3963", "zzzz", 1), both, "", ErrVaultFormat},
		"not ASCII":                    {vault11 + "é", both, "", ErrVaultFormat},
		"checksum changed":             {tamper(t, vault11, 1), both, "", ErrVaultTampered},
		"salt changed: no way to tell": {tamper(t, vault11, 0), both, "", ErrVaultWrongPassword},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Decrypt([]byte(c.data), c.secrets)
			if !errors.Is(err, c.err) || (c.err == nil) != (err == nil) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if string(got) != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// tamper changes one bit in salt (0), checksum (1) or content (2).
func tamper(t *testing.T, vault string, part int) string {
	t.Helper()
	head, body, _ := strings.Cut(vault, "\n")
	raw, err := hex.DecodeString(strings.ReplaceAll(body, "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	parts := bytes.Split(raw, []byte("\n"))
	digits := parts[part]
	if digits[3] == '0' {
		digits[3] = '1'
	} else {
		digits[3] = '0'
	}
	return head + "\n" + hex.EncodeToString(bytes.Join(parts, []byte("\n"))) + "\n"
}

func TestVaultTamperedContent(t *testing.T) {
	// A long text: one changed byte leaves it readable.
	v := tamper(t, longVault, 2)
	if _, err := Decrypt([]byte(v), []VaultSecret{{"default", "pw1"}}); !errors.Is(err, ErrVaultTampered) {
		t.Errorf("got %v, want %v", err, ErrVaultTampered)
	}
	if _, err := Decrypt([]byte(v), []VaultSecret{{"default", "other"}}); !errors.Is(err, ErrVaultWrongPassword) {
		t.Errorf("got %v, want %v", err, ErrVaultWrongPassword)
	}
}

// A file of three variables, password pw1.
const longVault = `$ANSIBLE_VAULT;1.1;AES256
36666137633361666362366330656532616666306432613037383438373637656163303862353363
6233393663623535366138396165346337636137366335370a356365613330343737363063653061
64393833643132396539323265383164383932373239646461363461643333613461393763393564
3166393962653939370a376539356661633038313461633636363262346335643333366265323836
66356666313663326361386466323965376166616433626339313266383931326263623730393337
3166393333363731306664633633393435346535353537363061
`

func TestVaultIDMatch(t *testing.T) {
	v := &vault{match: true, secrets: []VaultSecret{{"dev", "pw2"}}}
	if _, err := v.decrypt([]byte(vault12)); !errors.Is(err, ErrVaultMissingID) {
		t.Errorf("got %v, want %v", err, ErrVaultMissingID)
	}
	v.secrets = []VaultSecret{{"prod", "pw2"}}
	if _, err := v.decrypt([]byte(vault12)); err != nil {
		t.Error(err)
	}
}

// TestSecretsStayHidden prints a host's variables in every way there is.
func TestSecretsStayHidden(t *testing.T) {
	fsys := fstest.MapFS{
		"hosts":                {Data: []byte("a\n")},
		"group_vars/all.yml":   {Data: []byte("s: !vault |\n  " + strings.ReplaceAll(strings.TrimSpace(vault11), "\n", "\n  ") + "\nnested: [{deep: !vault \"" + strings.ReplaceAll(vault11, "\n", `\n`) + "\"}]\n")},
		"group_vars/ungrouped": {Data: []byte(longVault)},
	}
	pw := []VaultSecret{{"default", "pw1"}}
	inv, err := Load(fsys, []string{"hosts"}, Options{VaultSecrets: pw})
	if err != nil {
		t.Fatal(err)
	}
	vars := inv.Vars("a")
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "vars", vars, "s", vars["s"])
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "vars", vars, "s", vars["s"])
	fmt.Fprintf(&b, "%v %+v %#v %s %q %x %d\n", vars, vars, vars, vars["s"], vars["s"], vars["s"], vars["s"])
	fmt.Fprintf(&b, "%v %+v %#v\n", pw, pw, pw)
	for _, v := range []any{vars, pw} {
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(j)
	}
	y, err := yaml.Marshal(vars)
	if err != nil {
		t.Fatal(err)
	}
	b.Write(y)
	for _, o := range []ExportOptions{{}, {Export: true}} {
		if err := errors.Join(inv.WriteList(&b, o), inv.WriteYAML(&b, o), inv.WriteGraph(&b, "", true, o), inv.WriteHost(&b, "a", false, o)); err != nil {
			t.Fatal(err)
		}
	}
	for _, secret := range []string{"hunter2", "tiny", "pw1", "68756e74657232"} {
		if strings.Contains(b.String(), secret) {
			t.Errorf("%q is shown:\n%s", secret, b.String())
		}
	}
	// And yet they are there for who asks.
	for name, want := range map[string]string{"s": "hunter2", "secret_a": "tiny", "num": "5"} {
		if got, err := vars[name].(Secret).Reveal(); err != nil || got != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestSecretWithoutPassword: an inventory loads without the password of its
// !vault strings; only using one is an error, which tells where it stands.
func TestSecretWithoutPassword(t *testing.T) {
	fsys := fstest.MapFS{"inventory.yml": {Data: []byte("all:\n  hosts:\n    a:\n      s: !vault |\n        " + strings.ReplaceAll(strings.TrimSpace(vault11), "\n", "\n        ") + "\n")}}
	inv, err := Load(fsys, []string{"inventory.yml"}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = inv.Vars("a")["s"].(Secret).Reveal()
	if !errors.Is(err, ErrVaultNoPassword) || !strings.HasPrefix(fmt.Sprint(err), "inventory.yml:4:10: ") {
		t.Errorf("got %v", err)
	}
}
