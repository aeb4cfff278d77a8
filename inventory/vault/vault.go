// Package vault decrypts Ansible Vault, formats 1.1 and 1.2: files and the
// strings tagged !vault within them.
package vault

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
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
)

// What can be wrong with a vault. Errors of this package wrap one of them.
var (
	// ErrNoPassword: there is a vault and no password was given at all.
	ErrNoPassword = errors.New("this is encrypted with Ansible Vault and no vault password was given")
	// ErrMissingID: vault_id_match wants the vault's own ID, and no
	// password has it.
	ErrMissingID = errors.New("no vault password was given for the vault's ID")
	// ErrWrongPassword: none of the passwords fits.
	ErrWrongPassword = errors.New("wrong vault password")
	// ErrTampered: a password fits, but the content was changed since
	// it was encrypted.
	ErrTampered = errors.New("the vault was changed after it was encrypted")
	// ErrFormat: this is no vault as Ansible writes it.
	ErrFormat = errors.New("this is not a well-formed vault")
)

// Secret is a password and the label it was given with (--vault-id
// label@source). Its password is never printed.
type Secret struct {
	ID       string // "default" if none was given
	Password Password
}

// Password is a vault password that prints as ***.
type Password string

func (Password) String() string               { return text.Redacted }
func (Password) GoString() string             { return text.Redacted }
func (Password) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte(text.Redacted)) }
func (Password) MarshalText() ([]byte, error) { return []byte(text.Redacted), nil }

const header = "$ANSIBLE_VAULT"

// Is tells whether data is a vault: pure ASCII that starts with the header. One
// character beyond ASCII and Ansible takes the file for plain.
func Is(data string) bool {
	if !strings.HasPrefix(data, header) {
		return false
	}
	for i := range len(data) {
		if data[i] >= 0x80 {
			return false
		}
	}
	return true
}

// Vault decrypts with some passwords and remembers derived keys. It is safe for
// use by many goroutines.
type Vault struct {
	secrets []Secret
	match   bool // only the password with the vault's own ID

	mu   sync.Mutex
	keys map[string]func() ([]byte, error) // password and salt → derived key
}

// New decrypts with passwords: those with a vault's own ID first, then, unless
// matchID (vault_id_match), all others in order.
func New(secrets []Secret, matchID bool) *Vault {
	return &Vault{secrets: secrets, match: matchID, keys: map[string]func() ([]byte, error){}}
}

// What ansible.parsing.vault.VaultAES256 derives a key by.
const (
	iterations = 10000
	keySize    = 32
)

// Value is the value of a !vault string. Like Ansible it is decrypted when it is
// first used, so an inventory loads without the password.
func (v *Vault) Value(cipher string, at text.Place) any {
	return value.NewVault(at, cipher, func() (any, error) {
		plain, err := v.Decrypt([]byte(cipher))
		if err == nil && !utf8.Valid(plain) {
			err = fmt.Errorf("%w: the content is not UTF-8", ErrFormat)
		}
		if err != nil {
			return nil, Located(at, err)
		}
		return string(plain), nil
	})
}

// Located gives an error of Decrypt its place and a hint.
func Located(at text.Place, err error) *text.Error {
	e := &text.Error{Place: at, Caret: -1, Message: "cannot decrypt: " + err.Error(), Err: err}
	switch {
	case errors.Is(err, ErrNoPassword):
		e.Hint = "Give the password: --vault-password-file FILE, --vault-id LABEL@FILE or --ask-vault-pass."
	case errors.Is(err, ErrMissingID):
		e.Hint = "Give it with --vault-id LABEL@FILE, or unset vault_id_match to try all passwords."
	case errors.Is(err, ErrWrongPassword):
		e.Hint = "Check the password; \"ansible-vault view\" with the same password tells whether it fits."
	case errors.Is(err, ErrTampered):
		e.Hint = "Take the file from version control again; do not trust this copy."
	case errors.Is(err, ErrFormat):
		e.Hint = "A vault starts with $ANSIBLE_VAULT;1.1;AES256 and goes on with lines of hexadecimal digits, all indented alike."
	}
	return e
}

// envelope is a vault taken apart.
type envelope struct {
	id                    string
	salt, mac, ciphertext []byte
}

func parseEnvelope(data []byte) (*envelope, error) {
	bad := func(what string) error { return fmt.Errorf("%w: %s", ErrFormat, what) }
	if !Is(string(data)) {
		return nil, bad("it does not start with " + header)
	}
	lines := strings.FieldsFunc(string(data), func(r rune) bool { return r == '\n' || r == '\r' })
	head := strings.Split(strings.TrimSpace(lines[0]), ";")
	if len(head) < 3 {
		return nil, bad("its first line must be " + header + ";1.1;AES256 or " + header + ";1.2;AES256;id")
	}
	if c := strings.TrimSpace(head[2]); c != "AES256" {
		return nil, bad(fmt.Sprintf("cipher %q is not known, only AES256 is", text.Clip(c)))
	}
	e := &envelope{id: "default"}
	if len(head) >= 4 {
		e.id = strings.TrimSpace(head[3])
	}
	body, err := hex.DecodeString(strings.Join(lines[1:], ""))
	if err != nil {
		return nil, bad("its body is not hexadecimal or was cut: " + err.Error())
	}
	parts := bytes.SplitN(body, []byte("\n"), 3)
	if len(parts) != 3 {
		return nil, bad("salt, checksum and content are not all there")
	}
	for i, into := range []*[]byte{&e.salt, &e.mac, &e.ciphertext} {
		if *into, err = hex.DecodeString(string(parts[i])); err != nil {
			return nil, bad("its inner part is not hexadecimal or was cut: " + err.Error())
		}
	}
	return e, nil
}

// Decrypt opens a vault with the first password that fits.
func (v *Vault) Decrypt(data []byte) ([]byte, error) {
	e, err := parseEnvelope(data)
	if err != nil {
		return nil, err
	}
	if len(v.secrets) == 0 {
		return nil, ErrNoPassword
	}
	// Ansible tries the passwords in the order given and only narrows the
	// set; trying the vault's own label first gives the same plaintext.
	own := func(s Secret) bool { return s.ID == e.id }
	candidates := slices.Clone(v.secrets)
	slices.SortStableFunc(candidates, func(a, b Secret) int {
		switch {
		case own(a) == own(b):
			return 0
		case own(a):
			return -1
		}
		return 1
	})
	tried, tampered := 0, false
	for _, s := range candidates {
		if v.match && s.ID != e.id {
			continue
		}
		tried++
		plain, err := v.open(e, s.Password)
		if err == nil {
			return plain, nil
		}
		tampered = tampered || errors.Is(err, ErrTampered)
	}
	switch {
	case tampered:
		return nil, ErrTampered
	case tried == 0:
		return nil, fmt.Errorf("%w: it is %q, given are %s", ErrMissingID, e.id, v.ids())
	case !slices.ContainsFunc(v.secrets, own):
		return nil, fmt.Errorf("%w: the vault's ID is %q, given are %s and none of them fits", ErrWrongPassword, e.id, v.ids())
	}
	return nil, fmt.Errorf("%w for vault ID %q", ErrWrongPassword, e.id)
}

func (v *Vault) ids() string {
	var ids []string
	for _, s := range v.secrets {
		if !slices.Contains(ids, s.ID) {
			ids = append(ids, s.ID)
		}
	}
	return strings.Join(ids, ", ")
}

func (v *Vault) open(e *envelope, password Password) ([]byte, error) {
	key, err := v.derive(password, e.salt)
	if err != nil {
		return nil, err
	}
	cipherKey, macKey, iv := key[:keySize], key[keySize:2*keySize], key[2*keySize:]
	mac := hmac.New(sha256.New, macKey)
	mac.Write(e.ciphertext)
	genuine := hmac.Equal(mac.Sum(nil), e.mac)

	block, err := aes.NewCipher(cipherKey)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(e.ciphertext))
	cipher.NewCTR(block, iv).XORKeyStream(plain, e.ciphertext)
	unpadded, padded := unpad(plain)
	if !genuine {
		// The content is never used. But whether it looks like text tells a
		// wrong password (noise) from a right one on changed content.
		if readable(unpadded) {
			return nil, ErrTampered
		}
		return nil, ErrWrongPassword
	}
	if !padded {
		return nil, fmt.Errorf("%w: wrong padding", ErrFormat)
	}
	return unpadded, nil
}

// derive is the key of a password and a salt, worked out once. It takes some
// milliseconds, for which nobody else waits.
func (v *Vault) derive(password Password, salt []byte) ([]byte, error) {
	id := string(password) + "\x00" + string(salt)
	v.mu.Lock()
	key := v.keys[id]
	if key == nil {
		key = sync.OnceValues(func() ([]byte, error) {
			return pbkdf2.Key(sha256.New, string(password), salt, iterations, 2*keySize+aes.BlockSize)
		})
		v.keys[id] = key
	}
	v.mu.Unlock()
	return key()
}

// unpad takes PKCS #7 padding off.
func unpad(b []byte) ([]byte, bool) {
	if len(b) == 0 || len(b)%aes.BlockSize != 0 {
		return b, false
	}
	n := int(b[len(b)-1])
	if n == 0 || n > aes.BlockSize || !bytes.HasSuffix(b, bytes.Repeat([]byte{byte(n)}, n)) {
		return b, false
	}
	return b[:len(b)-n], true
}

// readable tells text from noise: nine of ten characters are printable. Of
// random bytes four in ten are.
func readable(b []byte) bool {
	good := 0
	for _, r := range string(b) {
		if r == '\n' || r == '\t' || r == '\r' || (r >= ' ' && r < 0x7f) || (r > 0xa0 && r != utf8.RuneError) {
			good += utf8.RuneLen(r)
		}
	}
	return len(b) > 0 && good*10 >= len(b)*9
}
