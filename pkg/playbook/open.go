package playbook

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/value"
	"github.com/fleetd/fleetd/pkg/yaml"
)

// unknownError says that a variable holds a result of the run.
type unknownError struct{ name string }

func (e *unknownError) Error() string {
	return fmt.Sprintf("%q is a result of the run and not known before it", e.name)
}

// unknown reports whether a template failed for a result of the run alone.
func unknown(err error) bool {
	var u *unknownError
	return errors.As(err, &u)
}

// openStep is what the journal keeps of an open step, so that it is resolved
// without inventory and playbook. Args, Vars and Templates are JSON as templates
// write it.
type openStep struct {
	When        []string  `json:"when,omitempty"`
	ChangedWhen []string  `json:"changed_when,omitempty"`
	FailedWhen  []string  `json:"failed_when,omitempty"`
	Register    string    `json:"register,omitempty"`
	Loop        *openLoop `json:"loop,omitempty"`
	// Called are the words that call a handler.
	Called []string `json:"called,omitempty"`
	// Until says when the task need not be tried again: Tries times at most, Delay
	// seconds apart.
	Until []string `json:"until,omitempty"`
	Tries int64    `json:"tries,omitempty"`
	Delay int64    `json:"delay,omitempty"`
	// Files are the files of the bastion that it takes, by the names that its
	// arguments have for them.
	Files map[string]bastionFile `json:"files,omitempty"`
	// Shared are groups and hostvars, by the digest of what the plan holds of them:
	// they are the same for all hosts.
	Shared map[string]string `json:"shared,omitempty"`
	// Args are the parameters as they are written, where any of them or the
	// condition is open.
	Args map[string]json.RawMessage `json:"args,omitempty"`
	// Vars are the variables that all these may need, Templates those whose value
	// depends on a result itself, as they are written.
	Vars      map[string]json.RawMessage `json:"vars,omitempty"`
	Templates map[string]json.RawMessage `json:"templates,omitempty"`
}

// open is the open step of a task on a host, with what is unknown of it. late is
// set where its arguments are made in the run.
func (t *taskRun) open(s *scope, when []*field, unknown []string, late bool) (rollout.Open, *Error) {
	d := openStep{ChangedWhen: texts(t.changedWhen), FailedWhen: texts(t.failedWhen), Register: t.register, When: texts(when), Called: t.called}
	if len(t.until) > 0 {
		if err := t.repeat(s, &d); err != nil {
			return rollout.Open{}, err
		}
	}
	k := keeper{step: &d, s: t.loop.within(s), seen: map[string]bool{}}
	for _, list := range [][]string{d.When, d.ChangedWhen, d.FailedWhen, d.Until} {
		for _, e := range list {
			k.expression(e)
		}
	}
	out := rollout.Open{Unknown: unknown, Late: late}
	if t.loop != nil {
		known, err := t.keepLoop(s, &d, &out)
		if err != nil {
			return out, err
		}
		if !known {
			k.template(t.loop.value)
		}
	}
	for _, c := range d.ChangedWhen {
		out.Judged = append(out.Judged, "changed_when: "+c)
	}
	for _, c := range d.FailedWhen {
		out.Judged = append(out.Judged, "failed_when: "+c)
	}
	for _, c := range d.Until {
		out.Judged = append(out.Judged, fmt.Sprintf("until: %s (%d tries, %d s apart)", c, d.Tries, d.Delay))
	}
	if out.Late {
		d.Args = map[string]json.RawMessage{}
		for _, p := range t.params {
			raw, err := jinja.JSON(jinja.Normalize(p.value))
			if err != nil || holdsUnsafe(p.value) {
				return out, p.src.errorAt(p.val, "the parameter %q cannot be kept for the run: it is marked !unsafe or no plain data", p.name)
			}
			d.Args[p.name] = raw
			if s := t.spec.of(p.name); s.Type == rollout.Expression || s.Type == rollout.Conditions {
				for _, e := range expressions(p.value) {
					k.expression(e)
				}
			} else {
				k.template(p.value)
			}
		}
		out.Summary = t.written()
		if err := t.keepFiles(&k, &out, s); err != nil {
			return out, err
		}
	}
	k.keepShared(t, &out)
	if k.err != nil {
		return out, t.errorAt("%v", k.err).hint("let a task before it set what it needs with set_fact or vars")
	}
	raw, err := json.Marshal(d)
	if err != nil {
		return out, t.errorAt("this task cannot be kept for the run: %v", err)
	}
	out.Data = raw
	return out, nil
}

// repeat reads until, retries and delay as Ansible does: it is tried once and then
// retries times, three if that is not given (ansible/executor/task_executor.py).
func (t *taskRun) repeat(s *scope, d *openStep) *Error {
	d.Until, d.Tries, d.Delay = texts(t.until), 4, 5
	for _, k := range []struct {
		name  string
		field *field
		set   func(n int64)
	}{
		{"retries", t.retries, func(n int64) { d.Tries = max(n, 0) + 1 }},
		{"delay", t.delay, func(n int64) { d.Delay = max(n, 0) }},
	} {
		if k.field == nil {
			continue
		}
		v, ok := s.c.value(k.field, s)
		if !ok || v == nil {
			continue // told already, or not given
		}
		n, err := whole(v)
		if err == nil && n > maxRepeat {
			err = fmt.Errorf("is %d, and %d is the most", n, maxRepeat)
		}
		if err != nil {
			return k.field.errorAt("%s %v", k.name, err)
		}
		k.set(n)
	}
	return nil
}

// maxRepeat bounds retries and seconds of delay: more is a mistake, and a run that
// nobody sees the end of.
const maxRepeat = 1_000_000

// written is the call on one line, as it stands in the playbook.
func (t *taskRun) written() string {
	words := []string{strings.TrimPrefix(t.module.name, builtinPrefix) + ":"}
	for _, p := range t.params {
		v, isText := p.value.(string)
		if !isText {
			raw, err := jinja.JSON(jinja.Normalize(p.value))
			if err != nil {
				raw = []byte("…")
			}
			v = string(raw)
		}
		if t.spec.of(p.name).FreeForm {
			words = append(words, v)
		} else {
			words = append(words, p.name+"="+v)
		}
	}
	return strings.Join(strings.Fields(strings.Join(words, " ")), " ")
}

func texts(conditions []*field) []string {
	var out []string
	for _, f := range conditions {
		if s := conditionText(f); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// conditionText is a condition as an expression.
func conditionText(f *field) string {
	v := yaml.Scalar(f.node)
	if s, ok := v.(string); ok {
		return s
	}
	if v == nil {
		return ""
	}
	return jinja.Text(v)
}

func holdsUnsafe(v any) bool {
	switch v := v.(type) {
	case value.Unsafe:
		return true
	case []any:
		return slices.ContainsFunc(v, holdsUnsafe)
	case *value.Map:
		for _, x := range v.All() {
			if holdsUnsafe(x) {
				return true
			}
		}
	}
	return false
}

// expressions are the texts of a parameter that takes expressions.
func expressions(v any) []string {
	l, ok := v.([]any)
	if !ok {
		l = []any{v}
	}
	var out []string
	for _, x := range l {
		if s, ok := x.(string); ok {
			out = append(out, s)
		} else {
			out = append(out, jinja.Text(x))
		}
	}
	return out
}

// keeper collects the variables that the templates of a step name.
type keeper struct {
	step *openStep
	s    *scope
	seen map[string]bool
	// results are the results of the run among them.
	results []string
	// ofHosts are the variables that are looked up of other hosts; groups is set
	// where the groups are.
	ofHosts []string
	groups  bool
	err     error
}

func (k *keeper) expression(src string) {
	if w, err := jinja.WordsOf(src); err == nil { // a broken one is told where it is parsed
		k.words(w)
	}
}

// template looks at all texts within a value.
func (k *keeper) template(v any) {
	switch v := v.(type) {
	case string:
		if !jinja.MaybeTemplate(v) {
			return
		}
		if w, err := jinja.WordsIn(v); err == nil {
			k.words(w)
		}
	case []any:
		for _, x := range v {
			k.template(x)
		}
	case *value.Map:
		for _, x := range v.All() {
			k.template(x)
		}
	}
}

func (k *keeper) words(w jinja.Words) {
	if w.Whole {
		k.err = errors.New("hostvars can be used where a result of the run decides as hostvars[host].name, so that the plan holds what is looked up")
		return
	}
	k.ofHosts = append(k.ofHosts, w.OfHosts...)
	for _, name := range w.Names {
		if !k.seen[name] {
			k.seen[name] = true
			k.name(name)
		}
	}
}

func (k *keeper) name(name string) {
	switch {
	case k.s.unknown[name]:
		k.results = append(k.results, name)
		return
	case name == "omit", name == "hostvars":
		return
	case name == "groups":
		k.groups = true
		return
	}
	v, ok, err := k.s.Lookup(name)
	switch {
	case err == nil && !ok: // it is no variable, or is told in the run
	case err == nil && !isUnknown(v):
		raw, err := jinja.JSON(v)
		if err != nil {
			k.err = fmt.Errorf("the variable %q cannot be kept for the run: %w", name, err)
			return
		}
		k.keep(&k.step.Vars, name, raw)
	default:
		raw, ok := k.s.Raw(name)
		if !ok || !unknownIn(v, err) {
			return // as wrong in the run as it is now
		}
		text, err := jinja.JSON(jinja.Normalize(raw))
		if err != nil || holdsUnsafe(raw) {
			k.err = fmt.Errorf("the variable %q cannot be kept for the run: it is marked !unsafe or no plain data", name)
			return
		}
		k.keep(&k.step.Templates, name, text)
		k.template(raw)
	}
}

func (k *keeper) keep(m *map[string]json.RawMessage, name string, raw []byte) {
	if *m == nil {
		*m = map[string]json.RawMessage{}
	}
	(*m)[name] = raw
}

func isUnknown(v any) bool {
	o, ok := v.(jinja.Opaque)
	return ok && unknown(o.Err)
}

func unknownIn(v any, err error) bool { return isUnknown(v) || unknown(err) }
