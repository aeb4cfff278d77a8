package playbook

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// OpenSteps resolves the open steps of a run from what the plan holds of them and
// the results so far: it needs neither inventory nor playbook, and the same
// results give the same answer. It may be used from several goroutines.
type OpenSteps struct {
	params map[string]rollout.Params
	cache  *jinja.Cache
	shared sharedValues
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
	if len(step.Called) > 0 && !step.isCalled(results) {
		return nil, rollout.NotNotified, nil
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
	for _, name := range inOrder(step.Args, spec(o.params[module])) {
		spec := spec(o.params[module]).of(name)
		v, err := jinja.FromJSON(step.Args[name])
		if err != nil {
			return nil, "", fmt.Errorf("cannot read the parameter %q of %s: %w", name, module, err)
		}
		var out any
		if ofBastion(spec) {
			out, err = o.source(step, open, v, spec, args, s)
		} else {
			out, err = argument(o.cache, v, spec, s)
		}
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

// inOrder are the parameters that are given; those that name a file come last,
// because others say how it is read.
func inOrder(args map[string]json.RawMessage, params spec) []string {
	names := slices.Sorted(maps.Keys(args))
	slices.SortStableFunc(names, func(a, b string) int {
		last := map[bool]int{true: 1}
		return last[ofBastion(params.of(a))] - last[ofBastion(params.of(b))]
	})
	return names
}

// isCalled reports whether a task has notified the handler.
func (step *openStep) isCalled(results rollout.Results) bool {
	var words []string
	if json.Unmarshal(results[rollout.Notified], &words) != nil {
		return false // nothing was notified
	}
	return slices.ContainsFunc(step.Called, func(w string) bool { return slices.Contains(words, w) })
}

// Judge applies changed_when, failed_when and until to how a step ended the
// tries-th time.
func (o *OpenSteps) Judge(open rollout.Open, results rollout.Results, out rollout.Outcome, tries int64) rollout.Outcome {
	step, s, err := o.scope(open, results)
	if err != nil {
		return rollout.Fail(err)
	}
	if len(step.ChangedWhen)+len(step.FailedWhen)+len(step.Until) == 0 {
		return out
	}
	j := judgement{OpenSteps: o, step: &step, scope: s, failed: out.Kind == rollout.Failed}
	if err := json.Unmarshal(out.Result, &j.result); err != nil {
		return rollout.Fail(fmt.Errorf("cannot read the task's own result: %w", err))
	}
	if j.result == nil { // it was null
		j.result = map[string]json.RawMessage{}
	}
	j.changed = string(j.result["changed"]) == "true"
	return j.of(out, tries)
}

// judgement is a step's end while it is judged.
type judgement struct {
	*OpenSteps
	step            *openStep
	scope           *runScope
	result          map[string]json.RawMessage
	changed, failed bool
}

// note puts what is known so far where the conditions see it: the one after
// changed_when sees what it decided, as in Ansible.
func (j *judgement) note() (raw json.RawMessage, err error) {
	j.result["changed"], j.result["failed"] = flag(j.changed), flag(j.failed)
	raw, err = json.Marshal(j.result)
	j.scope.own = raw
	return raw, err
}

// of is the outcome as it is judged.
func (j *judgement) of(out rollout.Outcome, tries int64) rollout.Outcome {
	if len(j.step.Until) > 0 {
		j.result["attempts"] = json.RawMessage(fmt.Sprint(tries))
	}
	var err error
	decide := func(conditions []string, what *bool) {
		if len(conditions) == 0 || err != nil {
			return
		}
		if _, err = j.note(); err == nil {
			*what, err = j.all(conditions, j.scope)
		}
	}
	decide(j.step.ChangedWhen, &j.changed)
	decide(j.step.FailedWhen, &j.failed)
	if len(j.step.FailedWhen) > 0 {
		j.result["failed_when_result"] = flag(j.failed)
	}
	done := true
	if j.step.Tries > 1 { // without retries Ansible does not ask
		decide(j.step.Until, &done)
	}
	raw, badResult := j.note()
	switch {
	case err != nil:
		return undecided(out, err)
	case badResult != nil:
		return rollout.Fail(fmt.Errorf("cannot write down the task's result: %w", badResult))
	case !done && tries < j.step.Tries:
		out.Kind, out.Hint, out.Result, out.After = rollout.Retrying, "", nil, time.Duration(j.step.Delay)*time.Second
		out.Message = said(fmt.Sprintf("try %d of %d: not yet %s", tries, j.step.Tries, strings.Join(j.step.Until, " and ")), out.Message)
		return out
	case !done:
		j.failed = true
		j.result["attempts"] = json.RawMessage(fmt.Sprint(tries - 1)) // the retries, as in Ansible
		out.Message = said(fmt.Sprintf("tried %d times, and this is still false: %s", tries, strings.Join(j.step.Until, " and ")), out.Message)
		if raw, err = j.note(); err != nil {
			return rollout.Fail(fmt.Errorf("cannot write down the task's result: %w", err))
		}
	case j.failed && out.Kind != rollout.Failed:
		out.Message = said("failed_when is true: "+strings.Join(j.step.FailedWhen, " and "), out.Message)
	}
	out.Result = raw
	switch {
	case j.failed:
		out.Kind = rollout.Failed
	case j.changed:
		out.Kind, out.Hint = rollout.Changed, ""
	default:
		out.Kind, out.Hint = rollout.Unchanged, ""
	}
	return out
}

// said is what was decided, with what the step said of itself.
func said(why, message string) string { return strings.TrimSuffix(why+"; "+message, "; ") }

// undecided is a step whose end cannot be judged: that is a failure, and what it
// did is not forgotten for it.
func undecided(out rollout.Outcome, err error) rollout.Outcome {
	out.Kind, out.Message = rollout.Failed, said("cannot judge how it ended: "+err.Error(), out.Message)
	return out
}

func flag(b bool) json.RawMessage { return json.RawMessage(fmt.Sprint(b)) }

func (o *OpenSteps) all(conditions []string, s *runScope) (bool, error) {
	for _, c := range conditions {
		v, err := o.condition(c, s)
		if err != nil {
			return false, fmt.Errorf("%s: %w", c, err)
		}
		if !v {
			return false, nil
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
	return step, &runScope{cache: o.cache, step: &step, results: results, shared: &o.shared, contents: open.Contents}, nil
}

// runScope are the variables of a step in the run. Those that the plan holds win:
// no result has their name, or they were given with -e. (Others, also a task's own,
// give way to results, as in Ansible.) How the step itself ended is seen before all.
// The words of a node are data: no text of a result is a template.
type runScope struct {
	cache    *jinja.Cache
	step     *openStep
	own      json.RawMessage // the step's own result, while it is judged
	results  rollout.Results
	shared   *sharedValues
	contents rollout.Contents
	active   []string
}

// Lookup is a variable with its templates resolved.
func (s *runScope) Lookup(name string) (any, bool, error) {
	switch name {
	case "omit":
		return jinja.Omit{}, true, nil
	case "ansible_check_mode", "ansible_diff_mode":
		return false, true, nil
	case "groups", rollout.HostVars:
		return s.lookupShared(name)
	}
	if s.own != nil && name == s.step.Register {
		v, err := jinja.FromJSON(s.own)
		return v, err == nil, err
	}
	raw, ok := s.step.Templates[name]
	if !ok {
		if raw, ok = s.step.Vars[name]; !ok {
			raw, ok = s.results[name]
		}
		if !ok {
			return nil, false, nil
		}
		v, err := jinja.FromJSON(raw)
		return v, err == nil, err
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
