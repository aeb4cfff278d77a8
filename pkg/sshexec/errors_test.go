package sshexec

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"unicode"

	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/words"
)

// TestCauseNamesNoHost: two hosts that fail in the same way read alike.
func TestCauseNamesNoHost(t *testing.T) {
	for _, address := range []string{"10.0.0.1", "10.0.0.2"} {
		target := Target{Name: "db", Address: address}
		e := errorOf(target, "run uname", &Error{Kind: KindUnreachable, Op: "connect", Err: fmt.Errorf("%s refuses connections", target.HostPort())})
		if got := e.Cause(); got != "cannot connect: the host refuses connections" {
			t.Error(got)
		}
	}
}

// FuzzPeersWords: wherever a peer's words are shown, they are text on one line, and
// one word for the shell that a hint is copied to.
func FuzzPeersWords(f *testing.F) {
	for _, s := range []string{
		"", "\x1b[2J", "\x1b]0;owned\x07", "a\r\nweb2 | CHANGED | rc=0 >>", "\rall is well", "$(touch x)", "`id`", "'; rm -rf /; '", "\u009b31m", "\u202e", "\xff", "a\\", "-n", "~", strings.Repeat("x", 1<<20),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, said string) {
		if strings.Contains(said, "\x00") {
			return // ends a word of exec's
		}
		for _, kind := range []Kind{KindProtocol, KindBecome, KindFile} {
			e := errorOf(Target{Name: "web1"}, "run x", &Error{Kind: kind, Err: errors.New(said)})
			of := errorOf(Target{Name: said}, "log in as "+said, &Error{Kind: kind, Err: fmt.Errorf("sudo refuses: %s", said)})
			if !strings.Contains(of.Cause(), ": sudo refuses:") {
				t.Fatalf("the peer's words write over ours: %q", of.Cause())
			}
			for _, text := range []string{e.Error(), e.Cause(), of.Error(), of.Cause(), signalName(said)} {
				if len(text) > 20*maxShown {
					t.Fatalf("%d bytes are shown", len(text))
				}
				if i := strings.IndexFunc(text, func(r rune) bool { return r != '\t' && unicode.IsControl(r) || 0x202a <= r && r <= 0x202e }); i >= 0 {
					t.Fatalf("shown: %q", text)
				}
			}
		}
		if len(said) > 10_000 {
			return // longer than a command may be
		}
		word := words.Copyable(said)
		if out, err := exec.Command("/bin/sh", "-c", "printf '%s.' "+word).Output(); err != nil || string(out) != text.Printable(said)+"." {
			t.Fatalf("a shell reads %q of %s: %v", out, word, err)
		}
	})
}
