package compliance

import (
	"fmt"
	"slices"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// rule is what a policy can name.
type rule struct {
	Name, Help string
	Params     rollout.Params
	Cluster    bool
	with       func(rollout.Args) (compiled, error)
}

// rulesOf are those of the packages, those of their modules, and expressions.
func rulesOf(o Options) map[string]rule {
	out := map[string]rule{expressionRule: expressions(o.Facts)}
	for module, m := range o.Modules {
		if name := m.About().Rule; name != "" {
			out[name] = ofModule(name, module, m, o.Facts)
		}
	}
	for _, r := range o.Rules {
		out[r.Name] = rule{Name: r.Name, Help: r.Help, Params: r.Params, Cluster: r.Cluster, with: func(args rollout.Args) (compiled, error) {
			judge, err := r.With(args)
			if err != nil {
				return compiled{}, err
			}
			return compiled{func(l rollout.Look) ([]rollout.Finding, error) {
				f, err := judge(l)
				if err != nil {
					return nil, err
				}
				return []rollout.Finding{f}, nil
			}, r.Reads, r.OfCluster}, nil
		}}
	}
	return out
}

// ofModule is the rule of a module, with the module's parameters: what a task with
// these arguments would write is drift.
func ofModule(name, module string, m rollout.Differ, facts []Fact) rule {
	cluster := slices.ContainsFunc(m.Reads(nil), func(r rollout.Read) bool {
		return slices.ContainsFunc(facts, func(f Fact) bool { return f.Cluster && f.Section.Name() == r.Section })
	})
	help := "as the module " + module + " wants it with these arguments"
	return rule{Name: name, Help: help, Params: m.About().Params, Cluster: cluster, with: func(args rollout.Args) (compiled, error) {
		reads := m.Reads(args)
		c := compiled{reads: reads, judge: func(l rollout.Look) ([]rollout.Finding, error) {
			found, _, err := judge(m, l.Host, l.State, args)
			return found, err
		}}
		return c, nil
	}}
}

// inArgument is a mistake within an argument; line and column count from 0 within it.
type inArgument struct {
	name, message, hint string
	line, column        int
}

func (e *inArgument) Error() string { return fmt.Sprintf("%s: %s", e.name, e.message) }
