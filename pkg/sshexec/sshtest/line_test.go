package sshtest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fleetd/fleetd/pkg/sshexec/internal/wire"
)

func TestLineIsUnderstoodAgain(t *testing.T) {
	for _, l := range []wire.Line{
		{Nonce: "ab12"},
		{Nonce: "ab12", Method: "sudo", User: "root"},
		{Nonce: "ab12", Method: "sudo", User: "web user", Password: true},
		{Nonce: "ab12", Method: "sudo", Exe: "/opt/bin/sudo", Flags: []string{"-H", "-E"}, User: "root", Password: true},
		{Nonce: "ab12", Method: "sudo", Flags: []string{"-i"}, User: "root", Password: true},
		{Nonce: "ab12", Method: "su", User: "root", Password: true},
		{Nonce: "ab12", Method: "su", Exe: "sudo su -", User: "root", Password: true},
		{Nonce: "ab12", Method: "su", User: "root", Flags: []string{"-"}, Password: true},
	} {
		got, ok := parseLine(l.String())
		if !ok || got.Method != l.Method || got.User != l.User || got.Password != l.Password || got.Nonce != l.Nonce {
			t.Errorf("%s\nread as %+v, want %+v", l, got, l)
		}
	}
	for _, s := range []string{"uname -r", "exec /bin/sh -c id", "exec sudo -n id", "'", ""} {
		if _, ok := parseLine(s); ok {
			t.Errorf("%q is taken for ours", s)
		}
	}
}

func TestProgramIsUnderstoodAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[ a-z\\'"$;=\n]{0,12}`)
		p := wire.Program{Script: text.Draw(t, "script")}
		if rapid.Bool().Draw(t, "argv") {
			p = wire.Program{Argv: rapid.SliceOfN(text, 1, 4).Draw(t, "words")}
		}
		p.Env = rapid.MapOf(rapid.StringMatching(`[A-Z_]{1,3}`), text).Draw(t, "env")
		if len(p.Env) == 0 {
			p.Env = nil
		}
		line, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decodeProgram(line); err != nil || !cmp.Equal(back, p) {
			t.Fatalf("%q is read as %+v, %v", line, back, err)
		}
	})
}
