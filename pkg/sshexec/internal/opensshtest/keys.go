package opensshtest

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/crypto/ssh"
)

// Keygen makes a key pair in file and file.pub.
func Keygen(t testing.TB, file, typ, passphrase string, extra ...string) {
	t.Helper()
	os.Remove(file)
	os.Remove(file + ".pub")
	args := append([]string{"-q", "-t", typ, "-f", file, "-N", passphrase, "-C", "test"}, extra...)
	if out, err := exec.Command("ssh-keygen", args...).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
}

// Sign makes a certificate for a public key.
func Sign(t testing.TB, ca, id, principals, pub string, extra ...string) {
	t.Helper()
	args := append([]string{"-q", "-s", ca, "-I", id, "-n", principals}, extra...)
	args = append(args, pub)
	if out, err := exec.Command("ssh-keygen", args...).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
}

// ReadPublicKey reads a .pub file.
func ReadPublicKey(t testing.TB, file string) ssh.PublicKey {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	k, _, _, _, err := ssh.ParseAuthorizedKey(b)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// CopyFile copies a file.
func CopyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
