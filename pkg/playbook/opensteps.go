package playbook

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// OpenSteps resolves the open steps of a run from what the plan holds of them and
// the results so far: it needs neither inventory nor playbook, and the same
// results give the same answer. It may be used from several goroutines.
type OpenSteps struct {
	params map[string]rollout.Params
	cache  *jinja.Cache
}

// NewOpenSteps makes a resolver for modules with these parameters.
func NewOpenSteps(params map[string]rollout.Params) *OpenSteps {
	return &OpenSteps{params: params, cache: &jinja.Cache{}}
}

// Resolve tells the arguments of a step, or why it is skipped.
func (o *OpenSteps) Resolve(module string, open rollout.Open, results rollout.Results) (rollout.Args, string, error) {
	step, s, err := o.scope(open, results)
	if err != nil {
		return nil, "", err
	}
	for _, w := range step.When {
		v, err := o.condition(w, s)
		if err != nil {
			return nil, "", fmt.Errorf("when: %s: %w", w, err)
		}
		if !v {
			return nil, "skipped, since this is false: " + w, nil
		}
	}
	args := rollout.Args{}
	for name, raw := range step.Args {
		spec := spec(o.params[module]).of(name)
		v, err := jinja.FromJSON(raw)
		if err != nil {
			return nil, "", fmt.Errorf("cannot read the parameter %q of %s: %w", name, module, err)
		}
		out, err := argument(o.cache, v, spec, s)
		if err != nil {
			return nil, "", fmt.Errorf("%s: parameter %q: %w", module, name, err)
		}
		if given(out, spec) {
			args[name] = out
		} else if spec.Required {
			return nil, "", fmt.Errorf("%s needs the parameter %q, and this is nothing", module, name)
		}
	}
	return args, "", nil
}

// Judge applies changed_when and failed_when to how a step ended.
func (o *OpenSteps) Judge(open rollout.Open, results rollout.Results, out rollout.Outcome) rollout.Outcome {
	step, s, err := o.scope(open, results)
	if err != nil {
		return rollout.Fail(err)
	}
	if len(step.ChangedWhen)+len(step.FailedWhen) == 0 {
		return out
	}
	if step.Register != "" {
		s.results[step.Register] = out.Result
	}
	var result map[string]json.RawMessage
	if err := json.Unmarshal(out.Result, &result); err != nil {
		return rollout.Fail(fmt.Errorf("cannot read the task's own result: %w", err))
	}
	changed, failed := string(result["changed"]) == "true", out.Kind == rollout.Failed
	if len(step.ChangedWhen) > 0 {
		if changed, err = o.all(step.ChangedWhen, s); err != nil {
			return undecided(out, "changed_when", err)
		}
	}
	if len(step.FailedWhen) > 0 {
		if failed, err = o.all(step.FailedWhen, s); err != nil {
			return undecided(out, "failed_when", err)
		}
		if failed && out.Kind != rollout.Failed {
			out.Message = strings.TrimSuffix("failed_when is true: "+strings.Join(step.FailedWhen, " and ")+"; "+out.Message, "; ")
		}
		result["failed_when_result"] = flag(failed)
	}
	result["changed"], result["failed"] = flag(changed), flag(failed)
	switch {
	case failed:
		out.Kind = rollout.Failed
	case changed:
		out.Kind, out.Hint = rollout.Changed, ""
	default:
		out.Kind, out.Hint = rollout.Unchanged, ""
	}
	raw, err := json.Marshal(result)
	if err != nil {
		return rollout.Fail(fmt.Errorf("cannot write down the task's result: %w", err))
	}
	out.Result = raw
	return out
}

// undecided is a step whose end cannot be judged: that is a failure, and what it
// did is not forgotten for it.
func undecided(out rollout.Outcome, keyword string, err error) rollout.Outcome {
	out.Kind, out.Message = rollout.Failed, strings.TrimSuffix(fmt.Sprintf("%s: %v; %s", keyword, err, out.Message), "; ")
	return out
}

func flag(b bool) json.RawMessage { return json.RawMessage(fmt.Sprint(b)) }

func (o *OpenSteps) all(conditions []string, s *runScope) (bool, error) {
	for _, c := range conditions {
		v, err := o.condition(c, s)
		if err != nil || !v {
			return false, err
		}
	}
	return true, nil
}

func (o *OpenSteps) condition(src string, s *runScope) (bool, error) {
	e, err := o.cache.Expr(src)
	if err != nil {
		return false, err
	}
	v, err := e.Eval(s)
	return jinja.Truth(v), err
}

func (o *OpenSteps) scope(open rollout.Open, results rollout.Results) (openStep, *runScope, error) {
	var step openStep
	if err := json.Unmarshal(open.Data, &step); err != nil {
		return step, nil, fmt.Errorf("cannot read what the plan holds of the step: %w", err)
	}
	own := rollout.Results{}
	for name, raw := range results {
		own[name] = raw
	}
	return step, &runScope{cache: o.cache, step: &step, results: own}, nil
}

// runScope are the variables of a step in the run: results first, as registered
// variables win over the inventory's in Ansible. The words of a node are data:
// no text of a result is a template.
type runScope struct {
	cache   *jinja.Cache
	step    *openStep
	results rollout.Results
	active  []string
}

// Lookup is a variable with its templates resolved.
func (s *runScope) Lookup(name string) (any, bool, error) {
	if name == "omit" {
		return jinja.Omit{}, true, nil
	}
	if raw, ok := s.results[name]; ok {
		v, err := jinja.FromJSON(raw)
		return v, err == nil, err
	}
	if raw, ok := s.step.Vars[name]; ok {
		v, err := jinja.FromJSON(raw)
		return v, err == nil, err
	}
	raw, ok := s.step.Templates[name]
	if !ok {
		return nil, false, nil
	}
	if slices.Contains(s.active, name) {
		return nil, false, fmt.Errorf("variable %q refers to itself", name)
	}
	v, err := jinja.FromJSON(raw)
	if err != nil {
		return nil, false, err
	}
	s.active = append(s.active, name)
	v, err = s.cache.Data(v, s)
	s.active = s.active[:len(s.active)-1]
	return v, err == nil, err
}
