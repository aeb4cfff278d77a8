package module

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// touchless is what the modules have in common that look at nothing and touch
// nothing: what they say is in the change.
type touchless struct{}

func (touchless) Reads(rollout.Args) []rollout.Read { return nil }

func (touchless) Undo(context.Context, rollout.Step) rollout.Outcome {
	return rollout.AlreadyDone("there is nothing to take back")
}

// said is the Data of their changes: the outcome that Do returns.
func said(summary string, o rollout.Outcome) (rollout.Change, error) {
	raw, err := json.Marshal(o)
	if err != nil {
		return rollout.Change{}, fmt.Errorf("cannot encode the outcome: %w", err)
	}
	return rollout.Change{Action: rollout.ReadOnly, Summary: summary, Data: raw}, nil
}

func (touchless) Do(_ context.Context, s rollout.Step) rollout.Outcome {
	var o rollout.Outcome
	if err := json.Unmarshal(s.Change.Data, &o); err != nil {
		return rollout.Fail(fmt.Errorf("cannot read what is to be said: %w", err))
	}
	return o
}

// debug is ansible.builtin.debug.
type debug struct{ touchless }

func (debug) About() rollout.About {
	return rollout.About{Open: rollout.ReadOnly, Params: rollout.Params{
		"msg":       {Type: rollout.Any, Help: "what to show"},
		"var":       {Type: rollout.Expression, Help: "a variable or an expression to show, instead of msg"},
		"verbosity": {Type: rollout.Int, Help: "how many -v show it: from 1 on it is not shown"},
	}}
}

func (debug) Diff(_ string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	key, prefix := "msg", ""
	v, given := args["msg"]
	switch e, ok := args["var"].(rollout.Evaluated); {
	case ok && given:
		return rollout.Change{}, nil, &rollout.Problem{Message: "debug takes msg or var, not both"}
	case ok:
		key, v, prefix = e.Text, e.Value, e.Text+" = "
	case !given:
		v = "Hello world!"
	}
	shown := prefix + shownValue(v)
	o := rollout.AlreadyDone("%s", shown)
	o.Result = encode(map[string]any{"changed": false, "failed": false, key: v})
	if n, _ := args["verbosity"].(int64); n > 0 {
		o = rollout.Outcome{Kind: rollout.Skipped, Message: "skipped, since it is for a higher verbosity"}
	}
	c, err := said("show: "+oneLine(shown), o)
	return c, before, err
}

// shownValue is a text as it is, anything else as JSON.
func shownValue(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return string(encode(v))
}

// fail is ansible.builtin.fail.
type fail struct{ touchless }

func (fail) About() rollout.About {
	return rollout.About{Open: rollout.ReadOnly, Params: rollout.Params{"msg": {Type: rollout.String, Help: "why"}}}
}

func (fail) Diff(_ string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	why := text(args, "msg")
	if why == "" {
		why = "Failed as requested from task"
	}
	c, err := said("fail: "+oneLine(why), rollout.Outcome{Kind: rollout.Failed, Message: why})
	return c, before, err
}

// assert is ansible.builtin.assert.
type assert struct{ touchless }

func (assert) About() rollout.About {
	return rollout.About{Open: rollout.ReadOnly, Params: rollout.Params{
		"that":        {Type: rollout.Conditions, Required: true, Help: "what has to be true: one expression or a list"},
		"fail_msg":    {Type: rollout.String, Help: "what to say where it is not"},
		"msg":         {Type: rollout.String, Help: "an older name of fail_msg"},
		"success_msg": {Type: rollout.String, Help: "what to say where it is"},
		"quiet":       {Type: rollout.Bool, Help: "say less"},
	}}
}

func (assert) Diff(_ string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	that, _ := args["that"].([]rollout.Evaluated)
	var all []string
	o := rollout.AlreadyDone("%s", or(text(args, "success_msg"), "All assertions passed"))
	for _, e := range that {
		all = append(all, e.Text)
		if ok, _ := e.Value.(bool); !ok && o.Kind != rollout.Failed {
			msg := or(text(args, "fail_msg"), or(text(args, "msg"), "Assertion failed"))
			o = rollout.Outcome{Kind: rollout.Failed, Message: fmt.Sprintf("%s: %s", msg, e.Text)}
			o.Result = encode(map[string]any{"changed": false, "failed": true, "assertion": e.Text, "evaluated_to": false, "msg": msg})
		}
	}
	what := "assert: "
	if o.Kind == rollout.Failed {
		what = "assert, which is false: "
	}
	c, err := said(what+oneLine(strings.Join(all, " and ")), o)
	return c, before, err
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// setFact is ansible.builtin.set_fact, without cacheable: fleetd keeps no facts
// between runs.
type setFact struct{ touchless }

func (setFact) About() rollout.About {
	return rollout.About{Open: rollout.ReadOnly, Facts: true, Params: rollout.Params{rollout.AnyName: {Type: rollout.Any, Help: "a variable and its value"}}}
}

func (setFact) Diff(_ string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	if len(args) == 0 {
		return rollout.Change{}, nil, &rollout.Problem{Message: "set_fact sets no variable", Hint: "give it names and values"}
	}
	facts := maps.Clone(map[string]any(args))
	for name, v := range facts {
		// Ansible does so with texts that say true or false, whatever quotes they have.
		switch s, _ := v.(string); strings.ToLower(s) {
		case "true", "yes":
			facts[name] = true
		case "false", "no":
			facts[name] = false
		}
	}
	o := rollout.Outcome{Kind: rollout.Unchanged}
	o.Result = encode(map[string]any{"changed": false, "failed": false, "ansible_facts": facts})
	c, err := said("set "+strings.Join(slices.Sorted(maps.Keys(args)), ", "), o)
	return c, before, err
}
