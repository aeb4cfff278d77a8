package playbook

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/yaml"
)

// loop is what a task is repeated for.
type loop struct {
	*field // nil where there is loop_control alone
	value  any
	// kind is the keyword: loop, with_items and so on.
	kind        string
	item, index string // the variables that loop_control names; index may be ""
	// extended is set where ansible_loop tells of the round, bare where it does so
	// without all items; pause is in seconds.
	extended, bare bool
	pause          *field
}

func (l *loader) loop(t *task, f *field, kind string) {
	if t.loop == nil {
		t.loop = &loop{item: "item"}
	}
	if t.loop.field != nil {
		l.add(f.errorAt("a task has one loop"))
		return
	}
	l.parseTemplates(f.src, f.node)
	t.loop.field, t.loop.kind, t.loop.value = f, kind, l.data(f.src, f.node)
}

func (l *loader) loopControl(t *task, f *field) {
	if t.loop == nil {
		t.loop = &loop{item: "item"}
	}
	for _, e := range l.mapping(f.src, f.node) {
		v := &field{f.src, e.val}
		switch e.name {
		case "loop_var":
			t.loop.item = l.variable(v)
		case "index_var":
			t.loop.index = l.variable(v)
		case "label":
			l.scalar(v) // for people: the plan shows the items
		case "extended":
			t.loop.extended = l.yes(v)
		case "extended_allitems":
			t.loop.bare = !l.yes(v)
		case "pause":
			t.loop.pause = l.scalar(v)
		default:
			l.add(f.src.errorAt(e.key, "loop_control takes no %q", e.name).hint("it takes extended, extended_allitems, index_var, label, loop_var and pause"))
		}
	}
}

// yes is a keyword that is written as true or false.
func (l *loader) yes(f *field) bool {
	b, err := boolean(yaml.Scalar(f.node))
	if err != nil {
		l.add(f.errorAt("this %v", err))
	}
	return b
}

// own reports whether a template failed for a variable of the loop alone.
func (p *loop) own(err error) bool {
	var u *unknownError
	return p != nil && errors.As(err, &u) && slices.Contains(p.variables(), u.name)
}

// within are the variables of a host as a round of the loop sees them: those of
// the loop are not known yet.
func (p *loop) within(s *scope) *scope {
	if p == nil {
		return s
	}
	out := *s
	out.done, out.unknown = map[string]any{}, maps.Clone(s.unknown)
	if out.unknown == nil {
		out.unknown = map[string]bool{}
	}
	for _, name := range p.variables() {
		out.unknown[name] = true
	}
	return &out
}

// extendedLoop is the variable of loop_control's extended.
const extendedLoop = "ansible_loop"

// variables are those that the loop sets.
func (p *loop) variables() []string {
	out := []string{p.item}
	if p.index != "" {
		out = append(out, p.index)
	}
	if p.extended {
		out = append(out, extendedLoop)
	}
	return out
}

// openLoop is what the journal keeps of a loop: its items, or the template that
// gives them.
type openLoop struct {
	Items []json.RawMessage `json:"items,omitempty"`
	Value json.RawMessage   `json:"value,omitempty"`
	Kind  string            `json:"kind"`
	Item  string            `json:"item"`
	Index string            `json:"index,omitempty"`
	// Extended is set where each round has ansible_loop, Bare where that is without
	// all items.
	Extended bool `json:"extended,omitempty"`
	Bare     bool `json:"bare,omitempty"`
}

// mostRepeated bounds what ansible_loop repeats at each item, all together, in bytes:
// it is registered with each.
const mostRepeated = 4 << 20

// extendedBy is ansible_loop for each of the items, as Ansible has it
// (ansible/executor/task_executor.py).
func (p *openLoop) extendedBy(items []json.RawMessage) ([]json.RawMessage, error) {
	n := len(items)
	all, err := json.Marshal(items)
	if err != nil {
		return nil, err
	}
	if !p.Bare && n*len(all) > mostRepeated {
		return nil, fmt.Errorf("loop_control: extended would repeat all %d items, %d bytes, at each of them; write extended_allitems: false", n, len(all))
	}
	out := make([]json.RawMessage, n)
	for i := range items {
		var b strings.Builder
		fmt.Fprintf(&b, `{"index":%d,"index0":%d,"first":%t,"last":%t,"length":%d,"revindex":%d,"revindex0":%d`, i+1, i, i == 0, i+1 == n, n, n-i, n-i-1)
		if !p.Bare {
			fmt.Fprintf(&b, `,"allitems":%s`, all)
		}
		if i+1 < n {
			fmt.Fprintf(&b, `,"nextitem":%s`, items[i+1])
		}
		if i > 0 {
			fmt.Fprintf(&b, `,"previtem":%s`, items[i-1])
		}
		out[i] = json.RawMessage(b.String() + "}")
	}
	return out, nil
}

// keepLoop adds the loop to an open step. It reports whether its items are known.
func (t *taskRun) keepLoop(s *scope, d *openStep, out *rollout.Open) (known bool, e *Error) {
	p := t.loop
	d.Loop = &openLoop{Kind: p.kind, Item: p.item, Index: p.index, Extended: p.extended, Bare: p.bare}
	out.Late, out.Pause = true, p.pauseFor(s)
	v, err := s.c.cache.Data(p.value, s)
	if o, ok := v.(jinja.Opaque); ok && err == nil {
		err = o.Err
	}
	if unknown(err) {
		if d.Loop.Value, err = jinja.JSON(jinja.Normalize(p.value)); err != nil || holdsUnsafe(p.value) {
			return false, p.errorAt("this loop cannot be kept for the run: it is marked !unsafe or no plain data")
		}
		out.Loop = []string{strings.Join(expressions(p.value), ", ")}
		out.Unknown = append(out.Unknown, "loop")
		return false, nil
	}
	if err != nil {
		return false, s.c.templateError(p.src, p.node, err, s)
	}
	items, err := itemsOf(p.kind, v)
	if err != nil {
		return false, p.errorAt("%v", err).hint("write a list, or a template that gives one")
	}
	for _, x := range items {
		raw, err := jinja.JSON(jinja.Normalize(x))
		if err != nil {
			return false, p.errorAt("an item of this loop cannot be kept for the run: %v", err)
		}
		d.Loop.Items = append(d.Loop.Items, raw)
		out.Loop = append(out.Loop, shownItem(x, raw))
	}
	if len(items) == 0 {
		out.Loop = []string{"nothing"}
	}
	if _, err := d.Loop.extendedBy(d.Loop.Items); p.extended && err != nil {
		return false, p.errorAt("%v", err)
	}
	return true, nil
}

// pauseFor is how long to wait between two items.
func (p *loop) pauseFor(s *scope) time.Duration {
	if p.pause == nil {
		return 0
	}
	v, ok := s.c.value(p.pause, s)
	if !ok || v == nil {
		return 0
	}
	var n float64
	if text, isText := v.(string); isText {
		if f, err := strconv.ParseFloat(strings.TrimSpace(text), 64); err == nil {
			v = f
		}
	}
	switch v := v.(type) {
	case int64:
		n = float64(v)
	case float64:
		n = v
	default:
		n = -1
	}
	if !(n >= 0 && n <= maxRepeat) {
		s.c.add(p.pause.errorAt("pause is a number of seconds from 0 to %d, not %s", maxRepeat, jinja.Text(v)))
		return 0
	}
	return time.Duration(n * float64(time.Second))
}

// shownItem is an item for the plan: a text as it is, anything else as JSON.
func shownItem(x any, raw []byte) string {
	if s, ok := x.(string); ok {
		return s
	}
	return string(raw)
}

// Items are the results as each item of the loop finds them.
func (o *OpenSteps) Items(open rollout.Open, results rollout.Results) ([]rollout.Results, error) {
	step, s, err := o.scope(open, results)
	if err != nil {
		return nil, err
	}
	p := step.Loop
	items := p.Items
	if len(p.Value) > 0 {
		v, err := jinja.FromJSON(p.Value)
		if err == nil {
			v, err = o.cache.Data(v, s)
		}
		if err != nil {
			return nil, fmt.Errorf("loop: %w", err)
		}
		l, err := itemsOf(p.Kind, v)
		if err != nil {
			return nil, err
		}
		for _, x := range l {
			raw, err := jinja.JSON(x)
			if err != nil {
				return nil, fmt.Errorf("loop: %w", err)
			}
			items = append(items, raw)
		}
	}
	var rounds []json.RawMessage
	if p.Extended {
		if rounds, err = p.extendedBy(items); err != nil {
			return nil, err
		}
	}
	out := make([]rollout.Results, len(items))
	for n, x := range items {
		out[n] = maps.Clone(results)
		if out[n] == nil {
			out[n] = rollout.Results{}
		}
		out[n][p.Item] = x
		if p.Index != "" {
			out[n][p.Index] = json.RawMessage(fmt.Sprint(n))
		}
		if p.Extended {
			out[n][extendedLoop] = rounds[n]
		}
	}
	return out, nil
}

// Together is the outcome of a loop, and its result as Ansible registers it.
func (o *OpenSteps) Together(open rollout.Open, items []rollout.Results, ends []rollout.Outcome) rollout.Outcome {
	var step openStep
	if err := json.Unmarshal(open.Data, &step); err != nil {
		return rollout.Fail(fmt.Errorf("cannot read what the plan holds of the step: %w", err))
	}
	out := rollout.Outcome{Kind: rollout.Unchanged}
	var results []map[string]json.RawMessage
	var said []string
	facts := map[string]json.RawMessage{}
	skipped, failed := 0, 0
	changed := false
	for n, end := range ends {
		item := items[n][step.Loop.Item]
		r := map[string]json.RawMessage{}
		if len(end.Result) > 0 && json.Unmarshal(end.Result, &r) != nil {
			return rollout.Fail(fmt.Errorf("cannot read the result of item %d", n+1))
		}
		switch end.Kind {
		case rollout.Skipped:
			skipped++
			if len(r) == 0 {
				_ = json.Unmarshal(rollout.SkippedResult, &r) // JSON of our own
			}
		case rollout.Failed:
			failed++
			said = append(said, fmt.Sprintf("%s: %s", item, end.Message))
			out.Hint = end.Hint
		case rollout.Changed:
			changed = true
		}
		var set map[string]json.RawMessage
		if json.Unmarshal(r["ansible_facts"], &set) == nil {
			maps.Copy(facts, set) // of two that set one variable the later counts
		}
		r[step.Loop.Item] = item
		r["ansible_loop_var"], _ = json.Marshal(step.Loop.Item) // a text: it cannot fail
		if index := step.Loop.Index; index != "" {
			r[index] = items[n][index]
			r["ansible_index_var"], _ = json.Marshal(index)
		}
		if step.Loop.Extended {
			r[extendedLoop] = items[n][extendedLoop]
		}
		results = append(results, r)
	}
	switch {
	case failed > 0:
		out.Kind, out.Message = rollout.Failed, fmt.Sprintf("%d of %d items failed: %s", failed, len(ends), strings.Join(slices.Compact(said), "; "))
	case len(ends) == 0:
		out.Kind, out.Message = rollout.Skipped, "skipped, since the loop has no items"
	case skipped == len(ends):
		out.Kind, out.Message = rollout.Skipped, "skipped for every item"
	case changed:
		out.Kind, out.Message = rollout.Changed, fmt.Sprintf("%d items", len(ends))
	default:
		out.Message = fmt.Sprintf("%d items", len(ends))
	}
	whole := map[string]any{"results": results, "changed": changed, "skipped": out.Kind == rollout.Skipped, "msg": "All items completed"}
	switch {
	case len(ends) == 0:
		whole = map[string]any{"results": []any{}, "changed": false, "skipped": true, "skipped_reason": "No items in the list"}
	case failed > 0:
		whole["failed"], whole["msg"] = true, "One or more items failed"
	case out.Kind == rollout.Skipped:
		whole["msg"] = "All items skipped"
	}
	if len(facts) > 0 {
		whole[rollout.LoopFacts] = facts
	}
	raw, err := json.Marshal(whole)
	if err != nil {
		return rollout.Fail(fmt.Errorf("cannot write down the loop's result: %w", err))
	}
	out.Result = raw
	return out
}
