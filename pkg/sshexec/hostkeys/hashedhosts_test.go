package hostkeys

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh/knownhosts"
)

// TestHashedNames: thousands of hosts each look through thousands of hashed names,
// so one costs no memory, and nobody waits for another's.
func TestHashedNames(t *testing.T) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGqQOnwb5XgjcKyYyGjMxN5GvYFhPBgvI0KxR1Y3c1Zt"
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, "%s %s\n", knownhosts.HashHostname(fmt.Sprintf("[web%03d.example.org]:2222", i)), key)
	}
	file := t.TempDir() + "/known_hosts"
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	var k Store
	for _, tc := range []struct {
		name string
		line int
	}{{"[web000.example.org]:2222", 1}, {"[web999.example.org]:2222", 1000}, {"web999.example.org", 0}, {strings.Repeat("x", 1000), 0}} {
		found, err := k.lookup([]string{file}, tc.name)
		if err != nil || (tc.line == 0) != (len(found) == 0) || tc.line > 0 && found[0].line != tc.line {
			t.Errorf("%s: %v, %v", tc.name, found, err)
		}
	}
	if n := testing.AllocsPerRun(5, func() { _, _ = k.lookup([]string{file}, "web") }); n > 50 {
		t.Errorf("%v allocations for 1000 names", n)
	}
}
