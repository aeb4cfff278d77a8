package view

import (
	"encoding/json"
	"fmt"

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
		out = append(out, fmt.Sprintf("%s: %s: was %s, is %s", k.host, k.task, stepText(was[k]), stepText(is[k])))
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
