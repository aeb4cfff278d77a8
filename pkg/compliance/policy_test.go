package compliance

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
	yaml3 "gopkg.in/yaml.v3"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
)

// uptime stands in for a package's rule; what the real ones say of real facts their own
// tests show.
var uptime = rollout.Rule{
	Name: "uptime", Help: "up for no longer", Reads: []rollout.Read{{Section: "kernel", Key: "upkeep"}},
	Params: rollout.Params{"max": {Type: rollout.Duration, Required: true, Help: "how long"}, "strict": {Type: rollout.Bool}, "most": {Type: rollout.Int}, "by": {Type: rollout.Any}},
	With: func(args rollout.Args) (rollout.Judgement, error) {
		most, err := time.ParseDuration(args["max"].(string))
		if err != nil {
			return nil, err
		}
		return func(l rollout.Look) (rollout.Finding, error) {
			k, err := section.Get(l.State)
			switch {
			case err != nil:
				return rollout.Finding{}, err
			case k.Running == 13:
				return rollout.Finding{}, &rollout.Problem{Message: "13 tells nobody", Hint: "ask another"}
			case time.Duration(k.Running)*time.Hour > most:
				return rollout.Drifts("up for too long", rollout.Field{Name: "uptime", Before: fmt.Sprint(k.Running), After: most.String()}), nil
			}
			return rollout.Holds("fine"), nil
		}, nil
	},
}

var clusterwide = rollout.Rule{
	Name: "clusterwide", Help: "of the cluster", Cluster: true, OfCluster: []rollout.Read{{Section: "cluster"}},
	With: func(rollout.Args) (rollout.Judgement, error) {
		return func(l rollout.Look) (rollout.Finding, error) {
			k, err := clusterSection.Get(l.Cluster)
			return rollout.Finding{Text: "asked", Drift: k.Running != 1}, err
		}, nil
	},
}

var clusterSection = rollout.NewSection[kernel]("cluster")

// fleetOptions are those of a fleet of a, b, c and d.
func fleetOptions() Options {
	return Options{
		Rules: []rollout.Rule{uptime, clusterwide}, Modules: modules,
		Facts: []Fact{{Section: section, Keys: []string{""}}, {Section: clusterSection, Keys: []string{""}, Cluster: true}},
		Hosts: func(pattern string) ([]string, error) {
			switch pattern {
			case "all":
				return []string{"a", "b", "c", "d"}, nil
			case rollout.Localhost:
				return []string{rollout.Localhost}, nil
			case "nobody":
				return nil, errors.New(`"nobody" selects no host`)
			}
			return strings.Split(pattern, ","), nil
		},
	}
}

// TestLoad holds each file below testdata/policies: what is wrong with it, with its
// place and what would be right, or that nothing is. The published schema, which editors
// have, must refuse no file that is right; what it cannot know says "schema: accepts".
func TestLoad(t *testing.T) {
	schema := compileSchema(t)
	const file = "testdata/policies.txtar"
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(archive.Files); i += 2 {
		in, out := archive.Files[i], &archive.Files[i+1]
		_, err := Load(&text.Source{Name: in.Name, Data: string(in.Data)}, fleetOptions())
		refused := schemaRefuses(t, schema, in.Data)
		got := "loads"
		if err != nil {
			got = err.Error()
			if !refused {
				got += "\n(the schema accepts it)"
			}
		} else if refused {
			t.Errorf("%s loads, and the schema refuses it", in.Name)
		}
		if *update {
			out.Data = []byte(got + "\n")
		}
		if d := cmp.Diff(string(out.Data), got+"\n"); d != "" {
			t.Errorf("%s (-want +got):\n%s", in.Name, d)
		}
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	raw, err := json.Marshal(JSONSchema(fleetOptions()))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("policies.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("policies.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// schemaRefuses reports whether an editor would complain: a file that is no YAML is
// one, too.
func schemaRefuses(t *testing.T, s *jsonschema.Schema, data []byte) bool {
	t.Helper()
	var v any
	if yaml3.Unmarshal(data, &v) != nil {
		return true
	}
	raw, err := json.Marshal(daysAsText(v))
	if err != nil {
		return true
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(doc) != nil
}

// daysAsText makes of yaml.v3's dates the texts that they are to YAML 1.2.
func daysAsText(v any) any {
	switch v := v.(type) {
	case time.Time:
		return v.Format(time.DateOnly)
	case []any:
		for i := range v {
			v[i] = daysAsText(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = daysAsText(v[k])
		}
	case map[any]any:
		out := map[string]any{}
		for k := range v {
			out[fmt.Sprint(k)] = daysAsText(v[k])
		}
		return out
	}
	return v
}

// FuzzLoad: no file ends the program, and one that loads can be held against a fleet.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/policies.txtar")
	if err != nil || len(files) != 1 {
		f.Fatal(err)
	}
	archive, err := txtar.ParseFile(files[0])
	if err != nil {
		f.Fatal(err)
	}
	for i := 0; i < len(archive.Files); i += 2 {
		f.Add(string(archive.Files[i].Data))
	}
	f.Fuzz(func(t *testing.T, data string) {
		p, err := Load(&text.Source{Name: "p.yaml", Data: data}, fleetOptions())
		if err != nil {
			return
		}
		r := Evaluate(p, Fleet{Observed: observed1(t, map[string]kernel{"a": {1, 1}, "b": {99, 1}})}, noon)
		for _, write := range []func() error{func() error { return JUnit(discard{}, &r) }, func() error { return SARIF(discard{}, &r) }, func() error { return Prometheus(discard{}, &r) }} {
			if err := write(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// observed1 are hosts and a cluster with 1.
func observed1(t testing.TB, kernels map[string]kernel) map[string]rollout.Observation {
	t.Helper()
	out := map[string]rollout.Observation{}
	for h, k := range kernels {
		st := section.With(nil, k)
		out[h] = rollout.Observation{State: st}
	}
	st := clusterSection.With(nil, kernel{1, 1})
	out[rollout.Localhost] = rollout.Observation{State: st}
	return out
}

func TestEvaluate(t *testing.T) {
	p, err := Load(&text.Source{Name: "p.yaml", Data: `
playbook: false
policies:
  - {name: short, rule: uptime, with: {max: 10h}, severity: high}
  - {name: even, rule: expression, hosts: "a,b", with: {expr: kernel.Running % 2 == 0, text: is odd}}
  - {name: like the cluster, rule: expression, hosts: "b", with: {expr: kernel.Running == cluster.Running}}
  - {name: whole, rule: clusterwide}
waivers:
  - {policy: short, hosts: b, owner: ada, reason: old, expires: 2026-11-26}
  - {policy: short, hosts: "b,c", owner: bob, reason: new, expires: 2026-11-27}
  - {policy: even, hosts: a, owner: eve, reason: lasts, expires: 2026-12-05}
  - {policy: whole, owner: eve, reason: none, expires: 2027-12-05}
`}, fleetOptions())
	if err != nil {
		t.Fatal(err)
	}
	obs := observed1(t, map[string]kernel{"a": {5, 5}, "b": {12, 12}, "c": {13, 13}})
	obs["d"] = rollout.Observation{Problem: &rollout.Problem{Message: "down"}}
	r := Evaluate(p, Fleet{Observed: obs}, noon)
	var got []string
	for _, h := range r.Hosts {
		s := fmt.Sprintf("%s %s", h.Name, h.Status)
		for _, f := range h.Findings {
			s += fmt.Sprintf("; %s %s: %s", f.Policy, f.Status, f.Said())
			if f.Waiver != nil {
				s += " (" + f.Waiver.String() + ")"
			}
		}
		got = append(got, s)
	}
	want := []string{
		"a waived; short compliant: fine; even waived: is odd (waived by eve until 2026-12-05: lasts)",
		"b drift; short waived: up for too long: uptime is 12, should be 10h0m0s (waived by bob until 2026-11-27: new); even compliant: kernel.Running % 2 == 0; like the cluster drift: not so: kernel.Running == cluster.Running",
		"c unknown; short unknown: 13 tells nobody",
		"d unknown",
		"localhost compliant; whole compliant: asked",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	notes := []string{
		`p.yaml:9:5: the waiver of ada for "short" has expired on 2026-11-26; what it excused counts again`,
		`p.yaml:10:5: the waiver of bob for "short" expires on 2026-11-27`,
		`p.yaml:11:5: the waiver of eve for "even" expires on 2026-12-05`,
		`p.yaml:12:5: the waiver of eve for "whole" excuses nothing that was found; remove it`,
	}
	if d := cmp.Diff(notes, r.Notes); d != "" {
		t.Error(d)
	}
	// The day after, it counts.
	if again := Evaluate(p, Fleet{Observed: obs}, noon.AddDate(0, 0, 1)); again.Hosts[1].Findings[0].Status != Drift || !again.Hosts[1].Findings[0].Waiver.Expired {
		t.Errorf("%+v", again.Hosts[1].Findings[0])
	}
	wants := map[string]map[string][]string{
		"kernel":  {"a": {"upkeep", ""}, "b": {"upkeep", ""}, "c": {"upkeep"}, "d": {"upkeep"}},
		"cluster": {rollout.Localhost: {""}},
	}
	if d := cmp.Diff(wants, p.Wants()); d != "" {
		t.Error(d)
	}
	// A cluster that cannot be read leaves what is about hosts alone.
	obs[rollout.Localhost] = rollout.Observation{Problem: &rollout.Problem{Message: "no cluster is configured"}}
	r = Evaluate(p, Fleet{Observed: obs}, noon)
	if f := r.Hosts[1].Findings[2]; f.Status != Unknown || f.Text != "no cluster is configured" || r.Hosts[0].Status != Waived || r.Hosts[4].Status != Unknown {
		t.Errorf("%+v", r.Hosts)
	}
}

// TestExpressionIsBounded: an expression cannot take the bastion with it.
func TestExpressionIsBounded(t *testing.T) {
	list := "[" + strings.Repeat("1,", 400) + "1]"
	expr := list + ".all(x, " + list + ".all(y, " + list + ".all(z, x == y && y == z)))"
	p, err := Load(&text.Source{Name: "p.yaml", Data: "playbook: false\npolicies: [{name: n, rule: expression, hosts: a, with: {expr: '" + expr + "'}}]\n"}, fleetOptions())
	if err != nil {
		t.Fatal(err)
	}
	r := Evaluate(p, Fleet{Observed: observed1(t, map[string]kernel{"a": {1, 1}})}, noon)
	if f := r.Hosts[0].Findings[0]; f.Status != Unknown || !strings.Contains(f.Text, "cost") {
		t.Errorf("%+v", f)
	}
}

// TestDefault: the policies without a file load with the rules that they name.
func TestDefault(t *testing.T) {
	o := fleetOptions()
	for _, name := range []string{"kernel-current", "reboot-pending"} {
		o.Rules = append(o.Rules, rollout.Rule{Name: name, With: func(rollout.Args) (rollout.Judgement, error) { return nil, nil }})
	}
	p, err := Default(o)
	if err != nil || !p.Playbook() || len(p.Hosts()) != 4 || len(p.shown()) != 3 {
		t.Errorf("%+v, %v", p, err)
	}
}
