package view

import (
	"strings"
	"testing"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// Hosts whose plan names the host itself stand together; those of which anything
// else differs do not, whatever their names are.
func TestHostsWithTheirOwnNamesAreFolded(t *testing.T) {
	steps := map[string]rollout.PlannedStep{}
	for host, text := range map[string]string{
		"a": "echo a", "b": "echo b", "web1": "echo web1 and web1", "web2": "echo web2 and web2", "web3": "echo web3 and web1", "x": "date", "y": "date",
	} {
		steps[host] = rollout.PlannedStep{Change: rollout.Change{Action: rollout.Exec, Summary: "run: " + text}}
	}
	p := rollout.Plan{Plays: []rollout.PlannedPlay{{
		Name: "all", Strategy: rollout.Linear, Batches: [][]string{{"a", "b", "web1", "web2", "web3", "x", "y"}},
		Tasks: []rollout.PlannedTask{{Name: "Say", Module: "ansible.builtin.command", Steps: steps}},
	}}}
	var b strings.Builder
	planPlay(&b, Style{}, &p, 0)
	const want = `
Play 1/1: all  
  7 hosts at once; strategy linear; the run halts when all hosts of a batch fail

  a,b (2 hosts)
    as it is for a; for the others with their own names in its place
    > run: echo a  (Say)

  web[1:2] (2 hosts)
    as it is for web1; for the others with their own names in its place
    > run: echo web1 and web1  (Say)

  web3
    > run: echo web3 and web1  (Say)

  x,y (2 hosts)
    > run: date  (Say)
`
	if b.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
}
