// Package ansibletest asks the Ansible that is installed, so that tests can hold
// fleetd's answers against it.
package ansibletest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Python is the interpreter that ansible-inventory runs under. A test that asks
// takes seconds: it is skipped under -short, and where there is no Ansible.
func Python(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("asks the real Ansible; run without -short")
	}
	tool, err := exec.LookPath("ansible-inventory")
	if err != nil {
		t.Skip("ansible-inventory is not installed: apt-get install ansible-core")
	}
	f, err := os.Open(tool)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	line, err := bufio.NewReader(f).ReadString('\n')
	words := strings.Fields(strings.TrimPrefix(line, "#!"))
	if err != nil || len(words) == 0 || !strings.Contains(line, "python") {
		t.Fatalf("%s is no Python script", tool)
	}
	return words[0]
}

// Ask runs a Python script under that interpreter: question goes to its standard
// input as JSON, the answer is read from its standard output.
func Ask(t testing.TB, script string, question, answer any, args ...string) {
	t.Helper()
	in, err := json.Marshal(question)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), Python(t), append([]string{script}, args...)...)
	cmd.Stdin = bytes.NewReader(in)
	// No configuration of the person who runs the tests may matter.
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1"}
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, complaints.String())
	}
	if err := json.Unmarshal(out.Bytes(), answer); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out.String())
	}
}

// Cases says how many random cases a comparison draws, and from which seed.
// Without the environment variable it is n cases of one fixed seed, so that a
// change is judged by the same cases each time; with it, which is how new
// differences are looked for, as many as it says from a new seed, or from
// FLEETD_SEED to see one again.
func Cases(t testing.TB, variable string, n int) (cases int, seed uint64) {
	t.Helper()
	seed = 1
	if s := os.Getenv(variable); s != "" {
		if _, err := fmt.Sscan(s, &n); err != nil {
			t.Fatalf("%s: %v", variable, err)
		}
		seed = rand.Uint64()
	}
	if s := os.Getenv("FLEETD_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatalf("FLEETD_SEED: %v", err)
		}
	}
	t.Logf("%d cases, seed %d", n, seed)
	return n, seed
}
