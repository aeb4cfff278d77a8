package vault

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
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
	both := []Secret{{"default", "pw1"}, {"prod", "pw2"}}
	for name, c := range map[string]struct {
		data    string
		secrets []Secret
		want    string
		err     error
	}{
		"1.1":                          {vault11, both, "hunter2", nil},
		"1.2":                          {vault12, both, "Größe", nil},
		"label does not matter":        {vault12, []Secret{{"other", "pw2"}}, "Größe", nil},
		"second password":              {vault11, []Secret{{"a", "no"}, {"b", "pw1"}}, "hunter2", nil},
		"windows line ends":            {strings.ReplaceAll(vault11, "\n", "\r\n"), both, "hunter2", nil},
		"no password":                  {vault11, nil, "", ErrNoPassword},
		"wrong password":               {vault11, []Secret{{"default", "pw2"}}, "", ErrWrongPassword},
		"empty":                        {"", both, "", ErrFormat},
		"only a header":                {"$ANSIBLE_VAULT;1.1;AES256\n", both, "", ErrFormat},
		"short header":                 {"$ANSIBLE_VAULT\n6162\n", both, "", ErrFormat},
		"cut":                          {vault11[:len(vault11)-40], both, "", ErrFormat},
		"cut by a digit":               {vault11[:len(vault11)-2], both, "", ErrFormat},
		"another cipher":               {strings.Replace(vault11, "AES256", "AES", 1), both, "", ErrFormat},
		"not hexadecimal":              {strings.Replace(vault11, "3963", "zzzz", 1), both, "", ErrFormat},
		"not ASCII":                    {vault11 + "é", both, "", ErrFormat},
		"checksum changed":             {tamper(t, vault11, 1), both, "", ErrTampered},
		"salt changed: no way to tell": {tamper(t, vault11, 0), both, "", ErrWrongPassword},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := New(c.secrets, false).Decrypt([]byte(c.data))
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
	if _, err := New([]Secret{{"default", "pw1"}}, false).Decrypt([]byte(v)); !errors.Is(err, ErrTampered) {
		t.Errorf("got %v, want %v", err, ErrTampered)
	}
	if _, err := New([]Secret{{"default", "other"}}, false).Decrypt([]byte(v)); !errors.Is(err, ErrWrongPassword) {
		t.Errorf("got %v, want %v", err, ErrWrongPassword)
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
	v := New([]Secret{{"dev", "pw2"}}, true)
	if _, err := v.Decrypt([]byte(vault12)); !errors.Is(err, ErrMissingID) {
		t.Errorf("got %v, want %v", err, ErrMissingID)
	}
	v = New([]Secret{{"prod", "pw2"}}, true)
	if _, err := v.Decrypt([]byte(vault12)); err != nil {
		t.Error(err)
	}
}

// TestValue: a !vault string is decrypted when it is wanted; what is wrong then
// tells where it stands.
func TestValue(t *testing.T) {
	at := text.Place{File: "i.yml", Line: 4, Column: 10}
	s := New([]Secret{{"default", "pw1"}}, false).Value(vault11, at).(value.Secret)
	if got, err := s.Reveal(); got != "hunter2" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	_, err := New(nil, false).Value(vault11, at).(value.Secret).Reveal()
	if !errors.Is(err, ErrNoPassword) || !strings.HasPrefix(fmt.Sprint(err), "i.yml:4:10: ") {
		t.Errorf("got %v", err)
	}
}

// TestPasswordsStayHidden: no printing shows one.
func TestPasswordsStayHidden(t *testing.T) {
	pw := []Secret{{"default", "pw1"}}
	if s := fmt.Sprintf("%v %+v %#v %s %q", pw, pw, pw, pw[0].Password, pw[0].Password); strings.Contains(s, "pw1") {
		t.Errorf("shown: %s", s)
	}
}

// TestConcurrent is for the race detector: many goroutines, one derivation.
func TestConcurrent(t *testing.T) {
	v := New([]Secret{{"default", "pw1"}}, false)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got, err := v.Decrypt([]byte(vault11)); string(got) != "hunter2" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	wg.Wait()
	if len(v.keys) != 1 {
		t.Errorf("%d keys were derived", len(v.keys))
	}
}

func FuzzDecrypt(f *testing.F) {
	f.Add([]byte(vault11))
	f.Add([]byte(vault12))
	f.Add([]byte(longVault))
	f.Add([]byte("$ANSIBLE_VAULT;1.1;AES256\n6162\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		plain, err := New([]Secret{{"default", "pw1"}}, false).Decrypt(data)
		switch {
		case err == nil:
			// Nobody forges a checksum: only what ansible-vault made opens.
			if string(plain) != "hunter2" && !strings.HasPrefix(string(plain), "secret_a") {
				t.Fatalf("%q opens as %q", data, plain)
			}
		case !errors.Is(err, ErrFormat) && !errors.Is(err, ErrWrongPassword) && !errors.Is(err, ErrTampered):
			t.Fatalf("no error of ours: %v", err)
		}
	})
}
