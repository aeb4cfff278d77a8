package inventory

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
)

// What can be wrong with a vault. Errors of this package wrap one of them.
var (
	// ErrVaultNoPassword: there is a vault and no password was given at all.
	ErrVaultNoPassword = errors.New("this is encrypted with Ansible Vault and no vault password was given")
	// ErrVaultMissingID: vault_id_match wants the vault's own ID, and no
	// password has it.
	ErrVaultMissingID = errors.New("no vault password was given for the vault's ID")
	// ErrVaultWrongPassword: none of the passwords fits.
	ErrVaultWrongPassword = errors.New("wrong vault password")
	// ErrVaultTampered: a password fits, but the content was changed since
	// it was encrypted.
	ErrVaultTampered = errors.New("the vault was changed after it was encrypted")
	// ErrVaultFormat: this is no vault as Ansible writes it.
	ErrVaultFormat = errors.New("this is not a well-formed vault")
)

// VaultSecret is a password and the label it was given with (--vault-id
// label@source). Its password is never printed.
type VaultSecret struct {
	ID       string // "default" if none was given
	Password Password
}

// Password is a vault password that prints as ***.
type Password string

func (Password) String() string               { return redacted }
func (Password) GoString() string             { return redacted }
func (Password) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte(redacted)) }
func (Password) MarshalText() ([]byte, error) { return []byte(redacted), nil }

const vaultHeader = "$ANSIBLE_VAULT"

// isVault tells whether data is a vault: pure ASCII that starts with the
// header. One character beyond ASCII and Ansible takes the file for plain.
func isVault(data string) bool {
	if !strings.HasPrefix(data, vaultHeader) {
		return false
	}
	for i := range len(data) {
		if data[i] >= 0x80 {
			return false
		}
	}
	return true
}

// vault decrypts with the passwords of one Load and remembers derived keys.
type vault struct {
	secrets []VaultSecret
	match   bool // only the password with the vault's own ID

	mu   sync.Mutex
	keys map[string][]byte // password and salt → derived key, 10,000 rounds each
}

const (
	vaultIterations = 10000
	vaultKeySize    = 32
)

// inline makes a Secret of a !vault string. Like Ansible it is decrypted when
// it is first used, so an inventory loads without the password.
func (v *vault) inline(text string, t *text, line, col int) Secret {
	p := &secretValue{file: t.name, line: line, column: col, inline: true, cipher: text}
	p.open = func() (any, error) {
		plain, err := v.decrypt([]byte(text))
		if err != nil {
			return nil, vaultError(t.name, line, col, err)
		}
		if !utf8.Valid(plain) {
			return nil, vaultError(t.name, line, col, fmt.Errorf("%w: the content is not UTF-8", ErrVaultFormat))
		}
		return string(plain), nil
	}
	return Secret{p}
}

// hide makes Secrets of what stood in an encrypted file, also within lists and
// dictionaries; names, booleans and null tell nothing and stay. A value of any
// other file is returned as it is.
func (v *vault) hide(value any, t *text) any {
	if !t.secret {
		return value
	}
	switch x := value.(type) {
	case nil, bool, Secret:
		return value
	case *list:
		for i := range x.items {
			x.items[i] = v.hide(x.items[i], t)
		}
		return x
	case *dict:
		for i := range x.vals {
			x.vals[i] = v.hide(x.vals[i], t)
		}
		return x
	}
	return Secret{&secretValue{file: t.name, value: value}}
}

// vaultError gives a vault's error its place and a hint.
func vaultError(file string, line, col int, err error) *Error {
	e := &Error{File: file, Line: line, Column: col, Caret: -1, Message: "cannot decrypt: " + err.Error(), Err: err}
	switch {
	case errors.Is(err, ErrVaultNoPassword):
		e.Hint = "Give the password: --vault-password-file FILE, --vault-id LABEL@FILE or --ask-vault-pass."
	case errors.Is(err, ErrVaultMissingID):
		e.Hint = "Give it with --vault-id LABEL@FILE, or unset vault_id_match to try all passwords."
	case errors.Is(err, ErrVaultWrongPassword):
		e.Hint = "Check the password; \"ansible-vault view\" with the same password tells whether it fits."
	case errors.Is(err, ErrVaultTampered):
		e.Hint = "Take the file from version control again; do not trust this copy."
	case errors.Is(err, ErrVaultFormat):
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
	bad := func(what string) error { return fmt.Errorf("%w: %s", ErrVaultFormat, what) }
	if !IsVault(data) {
		return nil, bad("it does not start with " + vaultHeader)
	}
	lines := strings.FieldsFunc(string(data), func(r rune) bool { return r == '\n' || r == '\r' })
	head := strings.Split(strings.TrimSpace(lines[0]), ";")
	if len(head) < 3 {
		return nil, bad("its first line must be " + vaultHeader + ";1.1;AES256 or " + vaultHeader + ";1.2;AES256;id")
	}
	if c := strings.TrimSpace(head[2]); c != "AES256" {
		return nil, bad(fmt.Sprintf("cipher %q is not known, only AES256 is", clip(c)))
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

// decrypt opens a vault with the first password that fits: those with the
// vault's own ID first, then, unless IDs must match, all others in order.
func (v *vault) decrypt(data []byte) ([]byte, error) {
	e, err := parseEnvelope(data)
	if err != nil {
		return nil, err
	}
	if len(v.secrets) == 0 {
		return nil, ErrVaultNoPassword
	}
	// Ansible tries the passwords in the order given and only narrows the
	// set; trying the vault's own label first gives the same plaintext.
	candidates := slices.Clone(v.secrets)
	slices.SortStableFunc(candidates, func(a, b VaultSecret) int {
		return boolOrder(b.ID == e.id) - boolOrder(a.ID == e.id)
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
		tampered = tampered || errors.Is(err, ErrVaultTampered)
	}
	switch {
	case tampered:
		return nil, ErrVaultTampered
	case tried == 0:
		return nil, fmt.Errorf("%w: it is %q, given are %s", ErrVaultMissingID, e.id, v.ids())
	case !slices.ContainsFunc(v.secrets, func(s VaultSecret) bool { return s.ID == e.id }):
		return nil, fmt.Errorf("%w: the vault's ID is %q, given are %s and none of them fits", ErrVaultWrongPassword, e.id, v.ids())
	}
	return nil, fmt.Errorf("%w for vault ID %q", ErrVaultWrongPassword, e.id)
}

func boolOrder(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (v *vault) ids() string {
	var ids []string
	for _, s := range v.secrets {
		if !slices.Contains(ids, s.ID) {
			ids = append(ids, s.ID)
		}
	}
	return strings.Join(ids, ", ")
}

func (v *vault) open(e *envelope, password Password) ([]byte, error) {
	key, err := v.derive(password, e.salt)
	if err != nil {
		return nil, err
	}
	cipherKey, macKey, iv := key[:vaultKeySize], key[vaultKeySize:2*vaultKeySize], key[2*vaultKeySize:]
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
			return nil, ErrVaultTampered
		}
		return nil, ErrVaultWrongPassword
	}
	if !padded {
		return nil, fmt.Errorf("%w: wrong padding", ErrVaultFormat)
	}
	return unpadded, nil
}

func (v *vault) derive(password Password, salt []byte) ([]byte, error) {
	id := string(password) + "\x00" + string(salt)
	v.mu.Lock()
	defer v.mu.Unlock()
	if k := v.keys[id]; k != nil {
		return k, nil
	}
	k, err := pbkdf2.Key(sha256.New, string(password), salt, vaultIterations, 2*vaultKeySize+aes.BlockSize)
	if err != nil {
		return nil, err
	}
	if v.keys == nil {
		v.keys = map[string][]byte{}
	}
	v.keys[id] = k
	return k, nil
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

// IsVault tells whether data is encrypted with Ansible Vault.
func IsVault(data []byte) bool { return isVault(string(data)) }

// Decrypt opens a vault, formats 1.1 and 1.2, with the first of the passwords
// that fits.
func Decrypt(data []byte, secrets []VaultSecret) ([]byte, error) {
	return (&vault{secrets: secrets}).decrypt(data)
}
