package sshexec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
	"pgregory.net/rapid"
)

// FuzzUploadTalk: however standard error is cut into writes, the script's words are
// found in it, and what is shown of the rest is bounded, printable, and one line.
func FuzzUploadTalk(f *testing.F) {
	for _, said := range []string{
		"", "\n", "a", "mkdir: no\n", "a\r\nb\r\n", "\x1b[31mred\x1b[0m\n", "\x1b]0;no end\nx", "\xff\xfe\n", "\u202eabc", "fleetd-n sftp\n", "fleetd-x cat\n",
		"fleetd-n digest abc\x1b[2J\n", "a\rb\rc\r", strings.Repeat("x", 1<<20), strings.Repeat("é\n", 1<<18),
	} {
		f.Add([]byte(said), 3, true)
		f.Add([]byte(said), 1000, false)
	}
	f.Fuzz(func(t *testing.T, noise []byte, step int, plain bool) {
		method := "sftp"
		if plain {
			method = "cat"
		}
		if strings.Contains(string(noise), "fleetd-n") {
			noise = nil
		}
		b := []byte("fleetd-n " + method + "\n" + string(noise) + "\nfleetd-n digest 1234\n")
		talk := newUploadTalk("n")
		for len(b) > 0 {
			k := min(max(step, 1), len(b))
			if n, err := talk.Write(b[:k]); n != k || err != nil {
				t.Fatal(n, err)
			}
			b = b[k:]
		}
		if got := <-talk.method; got != method {
			t.Fatalf("method %q", got)
		}
		said, digest := talk.result()
		if digest != "1234" {
			t.Fatalf("digest %q of %q", digest, noise)
		}
		if len(said) > 6*16<<10 || strings.IndexFunc(said, func(r rune) bool { return r != '\t' && unicode.IsControl(r) }) >= 0 || !utf8.ValidString(said) {
			t.Fatalf("shown: %q", said)
		}
	})
}

func TestCaptureKeepsBothEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(2, 40).Draw(t, "limit")
		var all []byte
		c := newCapture(limit)
		for _, w := range rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 0, 60)).Draw(t, "writes") {
			all = append(all, w...)
			if n, err := c.Write(w); n != len(w) || err != nil {
				t.Fatal(n, err)
			}
		}
		got, truncated := c.end()
		half := limit / 2
		want := all
		if cut := len(all) - 2*half; cut > 0 {
			want = append(append(append([]byte(nil), all[:half]...), fmt.Sprintf("\n[... %d bytes left out ...]\n", cut)...), all[len(all)-half:]...)
		}
		if !bytes.Equal(got, want) || truncated != (len(all) > 2*half) {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}

func TestSecretIsNeverPrinted(t *testing.T) {
	target := Target{Name: "web1", Password: "hunter2", Become: Become{Password: "hunter2"}}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", target.Password, "target", target)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", target.Password, "target", target)
	j, err := json.Marshal(target)
	if err != nil {
		t.Fatal(err)
	}
	y, err := yaml.Marshal(target)
	if err != nil {
		t.Fatal(err)
	}
	all := log.String() + string(j) + string(y)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
		all += fmt.Sprintf(verb, target) + fmt.Sprintf(verb, target.Password) + fmt.Sprintf(verb, &target) + fmt.Sprintf(verb, target.Become)
	}
	if strings.Contains(all, "hunter2") || strings.Contains(strings.ToLower(all), "68756e74657232") {
		t.Errorf("a secret is printed:\n%s", all)
	}
	if target.key() == (Target{Name: "web1", Password: "hunter3"}).key() {
		t.Error("another password gives the same connection")
	}
	if strings.Contains(target.key(), "hunter2") {
		t.Error("the key of the pool holds the password")
	}
}
