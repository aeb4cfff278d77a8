package playbook

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/value"
)

// changes is a module that changes every host, and says which arguments it was given.
type changes struct{}

func (changes) About() rollout.About              { return rollout.About{} }
func (changes) Reads(rollout.Args) []rollout.Read { return nil }
func (changes) Diff(_ string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	shown, err := json.Marshal(args)
	return rollout.Change{Action: rollout.Update, Summary: string(shown)}, before, err
}

// TestDigestIsOfNoOrder: how the keys of arguments and of variables are ordered
// makes no other plan, as long as no template looks at the order.
func TestDigestIsOfNoOrder(t *testing.T) {
	args := []string{`name: "{{ m.x }}"`, `version: "6.1"`, `minimum: "{{ n.b }}"`, `ignore: [dkms, kdump]`}
	playVars := []string{`m: {x: a, y: b}`, `n: {c: "{{ all_of.z }}", b: "{{ all_of.q }}"}`, `o: 1`}
	hostVars := []value.Entry{{Key: "all_of", Value: vars(map[string]any{"z": "1", "q": "2"})}, {Key: "p", Value: int64(1)}, {Key: "s", Value: []any{"x"}}}
	digest := func(t *rapid.T, args, playVars []string, hostVars []value.Entry) string {
		text := "- {hosts: all, vars: {" + strings.Join(playVars, ", ") + "}, tasks: [{fleetd.kernel.preflight: {" + strings.Join(args, ", ") + "}}]}\n"
		pb, err := loadFiles(map[string]string{"site.yml": text}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		inv := orderedInventory{&fakeInventory{hosts: hostNames(3)}, hostVars}
		d, _, err := pb.Compile(inv, testModules, CompileOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for pi := range d.Plays { // where things stand in the file is part of the plan
			d.Plays[pi].Position = rollout.Position{}
			for ti := range d.Plays[pi].Tasks {
				d.Plays[pi].Tasks[ti].Position = rollout.Position{}
			}
		}
		p, err := rollout.Compute(d, nil, map[string]rollout.Differ{"fleetd.kernel.preflight": changes{}}, rollout.Basis{})
		if err != nil {
			t.Fatal(err)
		}
		return p.Digest
	}
	rapid.Check(t, func(t *rapid.T) {
		want := digest(t, args, playVars, hostVars)
		got := digest(t, rapid.Permutation(args).Draw(t, "args"), rapid.Permutation(playVars).Draw(t, "vars"), rapid.Permutation(hostVars).Draw(t, "host"))
		if got != want {
			t.Fatalf("digest %s, of the first order %s", got, want)
		}
		if other := digest(t, append([]string{`enablerepo: x`}, args...), playVars, hostVars); other == want {
			t.Fatal("another argument makes the same digest")
		}
	})
}

// orderedInventory adds variables in a given order.
type orderedInventory struct {
	*fakeInventory
	more []value.Entry
}

func (o orderedInventory) Vars(host string) (*value.Map, error) {
	known, err := o.fakeInventory.Vars(host)
	if known == nil || err != nil {
		return nil, err
	}
	out := &value.Map{}
	for _, e := range o.more {
		out.Set(e.Key, e.Value)
	}
	out.Update(known, false)
	return out, nil
}
