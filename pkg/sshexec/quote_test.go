package sshexec

import (
	"bytes"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/fleetd/fleetd/pkg/sshexec/internal/wire"
	"github.com/fleetd/fleetd/pkg/words"
)

// shells are the ones found here that may be /bin/sh somewhere.
var shells = sync.OnceValue(func() [][]string {
	out := [][]string{{"/bin/sh"}}
	for _, s := range [][]string{{"dash"}, {"bash", "--posix"}, {"busybox", "sh"}, {"ksh"}, {"zsh", "--emulate", "sh"}} {
		if p, err := exec.LookPath(s[0]); err == nil {
			out = append(out, append([]string{p}, s[1:]...))
		}
	}
	return out
})

func runShell(t testing.TB, shell []string, script, stdin string) string {
	t.Helper()
	cmd := exec.Command(shell[0], append(shell[1:len(shell):len(shell)], "-c", script)...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", shell, err, &stderr)
	}
	return string(out)
}

var quoteSeeds = []string{
	"", " ", "a", "a b", "'", "''", `'\''`, `"`, "$HOME", "`id`", "$(id)", "\\", "\\n", "\n", "\n\n", "a\n", "\t", "*", "~", "~root", "#x", "!x",
	"-n", "--", "A=b", "{a,b}", "[a]", "é", "\xff\xfe", "\x01\x7f\x1b[31m", "%s%n%%", "\\0101", "\\c", "a\r\nb", "\u2028", "&&", "|", ";", "<", ">", "=",
}

// FuzzQuoteArgv: whatever string goes in, printf %s on a real sh gives back.
func FuzzQuoteArgv(f *testing.F) {
	for _, s := range quoteSeeds {
		f.Add(s, "x")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.Contains(a+b, "\x00") {
			t.Skip("no argument can hold NUL")
		}
		argv := []string{"printf", "%s\x01%s", a, b}
		line := words.Quote(argv...)
		back, err := words.Fields(line)
		if err != nil || len(back) != 4 || back[2] != a || back[3] != b {
			t.Fatalf("Fields(%q) = %q, %v", line, back, err)
		}
		for _, sh := range shells() {
			if got := runShell(t, sh, line, ""); got != a+"\x01"+b {
				t.Fatalf("%v: %q %q became %q by %s", sh, a, b, got, line)
			}
		}
	})
}

// FuzzProgram: argument, variable and script reach a real sh through the
// bootstrap unchanged, and what follows on standard input is the command's.
func FuzzProgram(f *testing.F) {
	for _, s := range quoteSeeds {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.Contains(a+b, "\x00") {
			t.Skip("no argument can hold NUL")
		}
		for _, p := range []wire.Program{
			{Env: map[string]string{"FL_X": a}, Argv: []string{"sh", "-c", `printf '%s\001%s\001' "$FL_X" "$1"; cat`, "sh", b}},
			{Env: map[string]string{"FL_X": a}, Script: "printf '%s\\001%s\\001' \"$FL_X\" " + words.Quote(b) + "\ncat\n"},
		} {
			text, err := p.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if strings.Count(text, "\n") != 1 {
				t.Fatalf("more than one line: %q", text)
			}
			text = wire.Line{Nonce: "n"}.Program(text)
			line := wire.Line{Nonce: "n"}.String()
			line = strings.Replace(line, "exec /bin/sh", "exec SHELL", 1)
			for _, sh := range shells() {
				got := runShell(t, []string{"/bin/sh"}, strings.Replace(line, "SHELL", words.Quote(sh...), 1), text+"rest\nof input")
				if want := a + "\x01" + b + "\x01rest\nof input"; got != want {
					t.Fatalf("%v: got %q, want %q", sh, got, want)
				}
			}
		}
	})
}

func TestCutProgramLineIsNotExecuted(t *testing.T) {
	text, err := wire.Program{Script: "echo ran; echo rm -rf /var/lib/x"}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	text = wire.Line{Nonce: "n"}.Program(text)
	for _, sh := range shells() {
		for cut := 0; cut < len(text); cut++ {
			cmd := exec.Command("/bin/sh", "-c", strings.Replace(wire.Line{Nonce: "n"}.String(), "/bin/sh", words.Quote(sh...), 1))
			cmd.Stdin = strings.NewReader(text[:cut])
			out, err := cmd.Output()
			if len(out) > 0 || err == nil || cmd.ProcessState.ExitCode() != 125 {
				t.Fatalf("%v: cut after %d bytes: %q, %v", sh, cut, out, err)
			}
			if cut > 20 && cut < len(text)-3 {
				cut += 10
			}
		}
	}
}

// TestOnlyAProgramIsEvaluated: what does not carry the nonce may be a password.
func TestOnlyAProgramIsEvaluated(t *testing.T) {
	for _, sh := range shells() {
		for _, text := range []string{"echo pw", "pecho pw", "eecho pw", "mpecho pw", "n", "nxecho pw", "n pecho pw", "$(echo pw)", ""} {
			cmd := exec.Command("/bin/sh", "-c", strings.Replace(wire.Line{Nonce: "n"}.String(), "/bin/sh", words.Quote(sh...), 1))
			cmd.Stdin = strings.NewReader(text + "\n")
			var said strings.Builder
			cmd.Stderr = &said
			out, err := cmd.Output()
			if len(out) > 0 || err == nil || cmd.ProcessState.ExitCode() != 125 || strings.Contains(said.String(), "pw") {
				t.Errorf("%v: %q: %q, %q, %v", sh, text, out, said.String(), err)
			}
		}
	}
}

func TestWireLineForEveryLoginShell(t *testing.T) {
	// The part that the login shell parses must not hold what other shells
	// read differently.
	boot := wire.Line{Nonce: "ab12"}.String()
	if strings.Count(boot, "'") != 2 || strings.ContainsAny(boot, "!\n") {
		t.Errorf("the command line needs a POSIX login shell: %s", boot)
	}
}
