package node

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/words"
)

// genSecret draws from few letters, so that secrets overlap, hold each other and
// the asterisks that stand for them, and are quoted.
var genSecret = rapid.OneOf(
	rapid.StringMatching(`[ab*'é]{1,6}`),
	rapid.StringMatching(`[ab* \n]{2,20}`),
	rapid.StringMatching(`[!-~]{8,40}`),
).Filter(func(s string) bool { return strings.Trim(s, "* \n") != "" })

// genText draws output with the secrets in it, often long enough to be cut.
func genText(words ...string) *rapid.Generator[string] {
	long := rapid.Custom(func(t *rapid.T) string {
		line := strings.Repeat("y", rapid.IntRange(1, 90).Draw(t, "width")) + rapid.SampledFrom([]string{"", "\n"}).Draw(t, "end")
		return strings.Repeat(line, rapid.IntRange(1, 40).Draw(t, "times"))
	})
	filler := rapid.OneOf(rapid.StringMatching(`[abx*\n]{0,12}`), long, rapid.SampledFrom([]string{"\x1b[31m", "\r", "\xff", "\x00", "é", "\n"}))
	word := filler
	if len(words) > 0 {
		word = rapid.OneOf(filler, rapid.SampledFrom(words))
	}
	return rapid.Map(rapid.SliceOfN(word, 0, 12), func(w []string) string { return strings.Join(w, "") })
}

// genRun draws a command on a target, and how it ended.
func genRun(words ...string) *rapid.Generator[ranCommand] {
	text := genText(words...)
	return rapid.Custom(func(t *rapid.T) ranCommand {
		var run ranCommand
		if rapid.Bool().Draw(t, "script or argv") {
			run.command.Script = text.Draw(t, "script")
		} else {
			run.command.Argv = rapid.SliceOfN(text, 1, 4).Draw(t, "argv")
		}
		run.result = sshexec.Result{
			ExitStatus: rapid.IntRange(0, 1).Draw(t, "exit status"), Signal: rapid.SampledFrom([]string{"", "KILL"}).Draw(t, "signal"),
			Stdout: []byte(text.Draw(t, "stdout")), Stderr: []byte(text.Draw(t, "stderr")),
		}
		if rapid.Bool().Draw(t, "error") {
			run.err = errors.New("cannot run it: " + text.Draw(t, "cause"))
		}
		return run
	})
}

type ranCommand struct {
	command sshexec.Command
	result  sshexec.Result
	err     error
}

// TestNoSecretInAnOperation: whatever the secrets, and wherever a text is cut.
func TestNoSecretInAnOperation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(genSecret, 5, 5).Draw(t, "secrets")
		target := sshexec.Target{
			Password: sshexec.Secret(all[0]), Become: sshexec.Become{Password: sshexec.Secret(all[1])},
			ProxyJump: []sshexec.Target{{Password: sshexec.Secret(all[2])}, {Become: sshexec.Become{Password: sshexec.Secret(all[3])}}},
		}
		argv := all
		for _, s := range all {
			argv = append(argv, s[:len(s)/2], s[len(s)/2:], words.Quote(s))
		}
		run := genRun(argv...).Draw(t, "run")
		run.command.Secrets = []sshexec.Secret{sshexec.Secret(all[4])}
		op := describe(rollout.Operation{}, target, run.command, run.result, run.err)
		for _, s := range all {
			for _, text := range []string{op.Text, op.Result, op.Output} {
				if strings.Contains(text, s) {
					t.Fatalf("secret %q is in %q", s, text)
				}
				if quoted := words.Quote(s); strings.ContainsAny(s, "'") && strings.Contains(text, quoted) {
					t.Fatalf("secret %s is in %q", quoted, text)
				}
			}
		}
		checkBounds(t, op.Output, run)
	})
}

// checkBounds: the output is short, printable, and whole lines.
func checkBounds(t *rapid.T, output string, run ranCommand) {
	most := 4096
	if run.err == nil && run.result.OK() {
		most = 1024
	}
	if len(output) > most || !utf8.ValidString(output) || strings.ContainsAny(output, "\x1b\r\x00") {
		t.Fatalf("output of %d bytes: %q", len(output), output)
	}
}

// TestOperationIsAsItWas where no secret is in it: what is there is kept.
func TestOperationIsAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		run := genRun().Draw(t, "run")
		plain := describe(rollout.Operation{}, sshexec.Target{}, run.command, run.result, run.err)
		run.command.Secrets = []sshexec.Secret{"Tr0ub4dor", "a secret\nof two lines", "***", ""}
		got := describe(rollout.Operation{}, sshexec.Target{Password: "q"}, run.command, run.result, run.err)
		if diff := cmp.Diff(plain, got); diff != "" {
			t.Fatalf("-without +with secrets:\n%s", diff)
		}
		// The lines are those at the end of what was printed.
		all, rest := text.Printable(string(run.result.Stdout)), text.Printable(string(run.result.Stderr))
		if all != "" && !strings.HasSuffix(all, "\n") && rest != "" {
			all += "\n"
		}
		all += rest
		all = strings.TrimRight(all, "\n")
		end, cut := strings.CutPrefix(got.Output, "…\n")
		before, found := strings.CutSuffix(all, end)
		switch {
		case !found, !cut && before != "":
			t.Fatalf("output %q of %q", got.Output, all)
		case cut && len(end) < 100 && !strings.HasSuffix(before, "\n"):
			t.Fatalf("output %q begins within a line", got.Output)
		}
		checkBounds(t, got.Output, run)
	})
}

func TestRedact(t *testing.T) {
	for _, tc := range []struct {
		hide       secrets
		text, want string
	}{
		{nil, "abc", "abc"},
		{secrets{"b"}, "abcb", "a***c***"},
		{secrets{"aba"}, "xababay", "x***y"}, // the second would leave "ba"
		{secrets{"abc", "cd"}, "abcd", "***"},
		{secrets{"b", "abc"}, "abc b", "*** ***"},
		{secrets{"*b"}, "a*bb", "a*****"},
		{secrets{"é"}, "aéa", "a***a"},
	} {
		if got := tc.hide.redact(tc.text); got != tc.want {
			t.Errorf("%q in %q: %q, want %q", tc.hide, tc.text, got, tc.want)
		}
	}
}

func TestOperationOutput(t *testing.T) {
	lines := strings.Repeat(strings.Repeat("x", 99)+"\n", 100)
	facts := sshexec.Command{Script: programFor(nil)}
	for _, tc := range []struct {
		name string
		c    sshexec.Command
		r    sshexec.Result
		err  error
		want string
	}{
		{"nothing", sshexec.Command{}, sshexec.Result{}, nil, ""},
		{"both", sshexec.Command{}, sshexec.Result{Stdout: []byte("out"), Stderr: []byte("err\n")}, nil, "out\nerr"},
		{"rc 0", sshexec.Command{}, sshexec.Result{Stdout: []byte(lines)}, nil, "…\n" + strings.TrimSuffix(lines[:1000], "\n")},
		{"rc 1", sshexec.Command{}, sshexec.Result{Stdout: []byte(lines), ExitStatus: 1}, nil, "…\n" + strings.TrimSuffix(lines[:4000], "\n")},
		{"lost", sshexec.Command{}, sshexec.Result{Stdout: []byte(lines)}, errors.New("lost"), "…\n" + strings.TrimSuffix(lines[:4000], "\n")},
		{"one line", sshexec.Command{}, sshexec.Result{Stdout: []byte(strings.Repeat("é", 2000))}, nil, "…\n" + strings.Repeat("é", 508)},
		{"facts", facts, sshexec.Result{Stdout: []byte(lines)}, nil, ""},
		{"facts that failed", facts, sshexec.Result{Stderr: []byte("no space"), ExitStatus: 2}, nil, "no space"},
	} {
		if op := describe(rollout.Operation{}, sshexec.Target{}, tc.c, tc.r, tc.err); op.Output != tc.want {
			t.Errorf("%s: %q\nwant %q", tc.name, op.Output, tc.want)
		}
	}
}

// TestCutWithinASecret cuts output and command at every place in a secret: no
// piece of it may be left either.
func TestCutWithinASecret(t *testing.T) {
	const secret = "Tr0ub4dor&3-correct"
	target := sshexec.Target{Password: secret}
	check := func(what, text string) {
		t.Helper()
		for i := range len(secret) - 3 {
			if strings.Contains(text, secret[i:i+4]) {
				t.Fatalf("%s: %q is in %q", what, secret[i:i+4], text)
			}
		}
	}
	for pad := range 100 {
		r := sshexec.Result{Stdout: []byte(strings.Repeat("x", 2000) + secret + strings.Repeat("y", 950+pad))}
		check("output", describe(rollout.Operation{}, target, sshexec.Command{Argv: []string{"show"}}, r, nil).Output)
		r.Stdout = []byte(strings.Repeat("x", 2000) + secret[:9] + "\x1b[0m" + secret[9:] + strings.Repeat("y", 950+pad))
		check("coloured output", describe(rollout.Operation{}, target, sshexec.Command{Argv: []string{"show"}}, r, nil).Output)
		c := sshexec.Command{Script: strings.Repeat("x", 1920+pad) + secret + strings.Repeat("y", 100)}
		check("text", describe(rollout.Operation{}, target, c, sshexec.Result{}, nil).Text)
		c.Script = "show\n" + c.Script
		check("text", describe(rollout.Operation{}, target, c, sshexec.Result{}, nil).Text)
	}
}

// TestFormsOfASecret: a secret is not always printed as it was given.
func TestFormsOfASecret(t *testing.T) {
	for secret, printed := range map[string]string{
		"it's": `'it'\''s'`, " of a file\n": "of a file", "l1\r\nl2": "l1\nl2", "bell\x07\xff": `bell\x07` + "\ufffd",
	} {
		op := describe(rollout.Operation{}, sshexec.Target{}, sshexec.Command{Argv: []string{"x"}, Secrets: []sshexec.Secret{sshexec.Secret(secret)}},
			sshexec.Result{Stdout: []byte("<" + printed + ">")}, errors.New(secret+" "+printed))
		if left := strings.Trim(op.Output+op.Result, "<>'* "); strings.ContainsAny(left, "abcdefghijklmnopqrstuvwxyz") {
			t.Errorf("%q: %q, %q", secret, op.Output, op.Result)
		}
	}
}

// TestGapWithinASecret has the middle of a command's output left out, at every
// place in a secret of several lines: what is left of it must not be kept.
func TestGapWithinASecret(t *testing.T) {
	const secret = "first line\nsecond line\nthird line"
	for size := 40; size < 200; size++ {
		server := sshtest.New(t, sshtest.Handler(func(*sshtest.Request) sshtest.Response {
			return sshtest.Response{Stdout: strings.Repeat("x", 300) + secret + "\n" + strings.Repeat("kept\n", 4), Exit: 1}
		}))
		fleet := NewFleet(newPool(t), map[string]sshexec.Target{"node1": server.Target("node1")})
		j := &journal{}
		r, err := fleet.Run(rollout.WithRecorder(t.Context(), j), "node1", sshexec.Command{Script: "show", Secrets: []sshexec.Secret{secret}, MaxOutput: size})
		if err != nil || !r.Truncated || len(j.ops) != 1 {
			t.Fatalf("%+v, %v, %+v", r, err, j.ops)
		}
		out := j.ops[0].Output
		for _, part := range []string{"first", "second", "ond line", "third", "ird line"} {
			if strings.Contains(out, part) {
				t.Fatalf("%d bytes kept: %q", size, out)
			}
		}
		if !strings.HasPrefix(out, "…\n") {
			t.Fatalf("%d bytes kept: %q does not say that something is missing", size, out)
		}
		server.Close()
	}
}

// TestFleetKeepsSecretsOut runs commands that print every secret they know.
func TestFleetKeepsSecretsOut(t *testing.T) {
	server := sshtest.New(t, sshtest.Sudo(sshtest.SudoPolicy{Password: "become-pw"}), sshtest.PasswordAndKey("login-pw"),
		sshtest.Handler(func(r *sshtest.Request) sshtest.Response {
			return sshtest.Response{Stdout: "login-pw become-pw\n", Stderr: "token-pw\nplain\n"}
		}))
	target := server.Target("node1")
	target.Password = "login-pw"
	fleet := NewFleet(newPool(t), map[string]sshexec.Target{"node1": target})
	j := &journal{}
	ctx := rollout.WithRecorder(t.Context(), j)
	if _, err := fleet.Run(ctx, "node1", sshexec.Command{Argv: []string{"echo", "login-pw"}, Env: map[string]string{"TOKEN": "token-pw"}, Secrets: []sshexec.Secret{"token-pw"}, Become: true}); err != nil {
		t.Fatal(err)
	}
	const x = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
	if err := fleet.Upload(ctx, "node1", sshexec.Upload{Path: "/tmp/become-pw", Content: strings.NewReader("x"), Size: 1, SHA256: x, Mode: 0o600}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"ssh echo *** → rc 0: *** ***\n***\nplain",
		"upload /tmp/*** (1 bytes, mode 600) → ok: ",
	}
	var got []string
	for _, o := range j.ops {
		got = append(got, fmt.Sprintf("%s %s → %s: %s", o.Kind, o.Text, o.Result, o.Output))
		if o.Host != "node1" || o.Started.IsZero() || o.Took <= 0 {
			t.Errorf("%+v", o)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
