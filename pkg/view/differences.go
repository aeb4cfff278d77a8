package view

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
)

// Differences says how the plan of now differs from the one that was reviewed:
// whether these are the same machines, then what the plan was made from, what is
// out of service, and a line for each step; at most 20 lines, then how many more.
func Differences(reviewed, now *rollout.Plan) []string {
	const most = 20
	out := slices.Concat(
		boundDifferences(reviewed.Bound, now.Bound),
		fileDifferences(reviewed.Source.Files, now.Source.Files),
		downDifferences(reviewed.Down, now.Down),
		controlPlaneDifferences(reviewed.ControlPlane, now.ControlPlane),
		stepDifferences(reviewed, now),
	)
	if len(out) == 0 {
		out = []string{"the order of the plays, their batches or their limits have changed"}
	}
	if len(out) > most {
		out = append(out[:most], fmt.Sprintf("and %d more", len(out)-most))
	}
	return out
}

// eitherKeys are the keys of both maps, in order.
func eitherKeys[V any](a, b map[string]V) []string {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(keys)
	return slices.Compact(keys)
}

// boundDifferences says of which hosts another machine, or another cluster,
// answers.
func boundDifferences(was, is map[string]map[string]string) (out []string) {
	for _, h := range eitherKeys(was, is) {
		switch {
		case len(is[h]) == 0:
			out = append(out, hostNames([]string{h})+": cannot be told from another machine any more: nothing of it could be read")
			continue
		case len(was[h]) == 0:
			out = append(out, hostNames([]string{h})+": nothing was known of the machine, and now it answers")
			continue
		}
		for _, name := range eitherKeys(was[h], is[h]) {
			before, after := was[h][name], is[h][name]
			if before == after {
				continue
			}
			line := fmt.Sprintf("%s: %s was %s, is %s", hostNames([]string{h}), name, value(before), value(after))
			switch {
			case before == "" || after == "":
			case name == "address":
				line += ": it is reached at another place"
			case h == rollout.Localhost:
				line += ": another cluster answers"
			default:
				line += ": another machine answers"
			}
			out = append(out, line)
		}
	}
	return out
}

func fileDifferences(was, is map[string]string) (out []string) {
	for _, file := range eitherKeys(was, is) {
		before, after := was[file], is[file]
		switch {
		case before == after:
		case before == "":
			out = append(out, file+" is read now, and was not")
		case after == "":
			out = append(out, file+" was read, and is not any more")
		default:
			out = append(out, file+" has changed")
		}
	}
	return out
}

func downDifferences(was, is map[string]string) (out []string) {
	for _, h := range eitherKeys(was, is) {
		if was[h] != is[h] {
			out = append(out, fmt.Sprintf("%s: was %s, is %s", h, serving(was[h]), serving(is[h])))
		}
	}
	return out
}

// serving says what a reason to be out of service says, behind "was" or "is".
func serving(down string) string {
	if down == "" {
		return "in service"
	}
	return strings.TrimPrefix(text.Printable(down), "is ")
}

func controlPlaneDifferences(was, is rollout.ControlPlane) (out []string) {
	if !slices.Equal(was.Hosts, is.Hosts) {
		out = append(out, fmt.Sprintf("the control plane was %s, is %s", hostsOrNone(was.Hosts), hostsOrNone(is.Hosts)))
	}
	members := func(c rollout.ControlPlane) map[string]string {
		m := map[string]string{}
		for _, x := range c.Members {
			m[x.Name] = serving(x.Down)
		}
		return m
	}
	before, after := members(was), members(is)
	for _, name := range eitherKeys(before, after) {
		switch {
		case before[name] == after[name]:
		case before[name] == "":
			out = append(out, "etcd member "+name+" is new")
		case after[name] == "":
			out = append(out, "etcd member "+name+" is gone")
		default:
			out = append(out, fmt.Sprintf("etcd member %s: was %s, is %s", name, before[name], after[name]))
		}
	}
	return out
}

func hostsOrNone(hosts []string) string {
	if len(hosts) == 0 {
		return "not known"
	}
	return namesOf(hosts)
}

func stepDifferences(reviewed, now *rollout.Plan) (out []string) {
	type key struct{ play, task, host string }
	collect := func(p *rollout.Plan) (map[key]string, []key) {
		steps := map[key]string{}
		var order []key
		p.Each(func(id rollout.StepID, s rollout.PlannedStep) bool {
			k := key{p.Plays[id.Play].Name, taskName(p.Task(id)), id.Host}
			s.Change.Note = ""        // no part of what was reviewed
			raw, _ := json.Marshal(s) // plain data: cannot fail
			steps[k] = string(raw)
			order = append(order, k)
			return true
		})
		return steps, order
	}
	was, wasOrder := collect(reviewed)
	is, isOrder := collect(now)
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
			own = append(own, text.Printable(n))
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
		return "a problem (" + text.Printable(s.Problem.Message) + ")"
	}
	text := fmt.Sprintf("%q", s.Change.Summary)
	for _, f := range s.Change.Fields {
		text += fmt.Sprintf(", %s %s → %s", f.Name, value(f.Before), value(f.After))
	}
	return text
}
