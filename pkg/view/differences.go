package view

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// Differences says how the plan of now differs from the one that was reviewed,
// a line for each step; at most 20 lines, then how many more.
func Differences(reviewed, now *rollout.Plan) []string {
	const most = 20
	type key struct{ play, task, host string }
	collect := func(p *rollout.Plan) (map[key]string, []key) {
		steps := map[key]string{}
		var order []key
		p.Each(func(id rollout.StepID, s rollout.PlannedStep) bool {
			k := key{p.Plays[id.Play].Name, p.Task(id).Name, id.Host}
			raw, _ := json.Marshal(s) // plain data: cannot fail
			steps[k] = string(raw)
			order = append(order, k)
			return true
		})
		return steps, order
	}
	was, wasOrder := collect(reviewed)
	is, isOrder := collect(now)
	var out []string
	for _, k := range isOrder {
		if was[k] == is[k] {
			continue
		}
		before, after := stepText(was[k]), stepText(is[k])
		if before == after { // what is done is the same; why, or at what risk, is not
			before, after = noteText(was[k], is[k]), noteText(is[k], was[k])
		}
		out = append(out, fmt.Sprintf("%s: %s: was %s, is %s", k.host, k.task, before, after))
	}
	for _, k := range wasOrder {
		if _, ok := is[k]; !ok {
			out = append(out, fmt.Sprintf("%s: %s: was %s, is not planned any more", k.host, k.task, stepText(was[k])))
		}
	}
	if len(out) == 0 {
		out = []string{"the order of the plays, their batches or their limits have changed"}
	}
	if len(out) > most {
		out = append(out[:most], fmt.Sprintf("and %d more", len(out)-most))
	}
	return out
}

// noteText lists the reasons and risks of a step that another one lacks.
func noteText(raw, other string) string {
	var a, b rollout.PlannedStep
	if json.Unmarshal([]byte(raw), &a) != nil || json.Unmarshal([]byte(other), &b) != nil {
		return raw
	}
	theirs := append(slices.Clone(b.Change.Reasons), b.Change.Risks...)
	var own []string
	for _, n := range append(slices.Clone(a.Change.Reasons), a.Change.Risks...) {
		if !slices.Contains(theirs, n) {
			own = append(own, sshexec.Printable(n))
		}
	}
	if len(own) == 0 {
		return "without that"
	}
	return fmt.Sprintf("%q", strings.Join(own, "; "))
}

func stepText(raw string) string {
	if raw == "" {
		return "not planned"
	}
	var s rollout.PlannedStep
	if err := json.Unmarshal([]byte(raw), &s); err != nil {
		return raw
	}
	if s.Problem != nil {
		return "a problem (" + sshexec.Printable(s.Problem.Message) + ")"
	}
	text := fmt.Sprintf("%q", s.Change.Summary)
	for _, f := range s.Change.Fields {
		text += fmt.Sprintf(", %s %s → %s", f.Name, value(f.Before), value(f.After))
	}
	return text
}
