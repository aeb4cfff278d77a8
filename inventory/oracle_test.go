package inventory_test

import (
	"testing"

	"github.com/fleetd/fleetd/pkg/ansibletest"
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

// ask puts questions to the real Ansible.
func ask(t testing.TB, questions []question) []answer {
	t.Helper()
	var answers []answer
	ansibletest.Ask(t, "testdata/oracle.py", questions, &answers)
	if len(answers) != len(questions) {
		t.Fatalf("%d answers to %d questions", len(answers), len(questions))
	}
	return answers
}
