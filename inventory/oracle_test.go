package inventory_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// question is one run of the real tool; see testdata/oracle.py.
type question struct {
	Dir     string            `json:"dir"`
	Argv    []string          `json:"argv,omitempty"`
	Env     map[string]string `json:"env,omitempty"`
	Match   []string          `json:"match,omitempty"`
	Limit   string            `json:"limit,omitempty"`
	Sources []string          `json:"sources,omitempty"`
	Matches [][2]string       `json:"matches,omitempty"`
	Extras  []string          `json:"extras,omitempty"`
	Quick   bool              `json:"quick,omitempty"`
}

type answer struct {
	RC  int    `json:"rc"`
	Out string `json:"out"`
	Err string `json:"err"`
}

// ansiblePython is the interpreter that ansible-inventory runs under, "" if
// there is no Ansible here.
func ansiblePython() string {
	tool, err := exec.LookPath("ansible-inventory")
	if err != nil {
		return ""
	}
	f, err := os.Open(tool)
	if err != nil {
		return ""
	}
	defer f.Close()
	line, _ := bufio.NewReader(f).ReadString('\n')
	fields := strings.Fields(strings.TrimPrefix(line, "#!"))
	if len(fields) == 0 || !strings.Contains(line, "python") {
		return ""
	}
	return fields[0]
}

// ask puts questions to the real Ansible.
func ask(t testing.TB, questions []question) []answer {
	t.Helper()
	python := ansiblePython()
	if python == "" {
		t.Fatal("ansible-inventory is needed: apt-get install ansible-core")
	}
	script, err := filepath.Abs("testdata/oracle.py")
	if err != nil {
		t.Fatal(err)
	}
	in, err := json.Marshal(questions)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), python, script)
	cmd.Stdin = bytes.NewReader(in)
	// No configuration of the person who runs the tests may matter.
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1"}
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		t.Fatalf("oracle: %v\n%s", err, complaints.String())
	}
	var answers []answer
	if err := json.Unmarshal(out.Bytes(), &answers); err != nil {
		t.Fatalf("oracle: %v\n%s", err, out.String())
	}
	if len(answers) != len(questions) {
		t.Fatalf("oracle: %d answers to %d questions", len(answers), len(questions))
	}
	return answers
}
