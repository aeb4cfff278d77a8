package kernel

import (
	"errors"
	"fmt"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

var _, _ rollout.Judge = install{}, trialBoot{}

// minimumRule is the rule for the oldest kernel that a host may run, which a
// newer one satisfies as well.
const minimumRule = "kernel-minimum"

// Judge holds the running kernel against the oldest one allowed, if the
// arguments name one, and the installed ones against the one that is wanted.
func (m install) Judge(host string, state rollout.State, args rollout.Args) ([]rollout.Finding, error) {
	f, err := node.Section.Get(state)
	if err != nil {
		return nil, err
	}
	w := wantedArgs(args)
	var out []rollout.Finding
	if w.Minimum != "" {
		minimum, err := judgeMinimum(f.Running, w.Minimum)
		if err != nil {
			return nil, err
		}
		out = append(out, minimum)
	}
	change, _, err := m.Diff(host, state, args)
	var unfit *rollout.Problem
	if errors.As(err, &unfit) {
		// The repository may not answer: what runs was judged all the same. Whoever
		// asks Diff is told the problem.
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	found := rollout.Finding{Rule: m.About().Rule, Text: change.Summary}
	if change.Action.Writes() {
		found.Drift, found.Text, found.Fields = true, "would "+change.Summary, change.Fields[:1]
	}
	return append(out, found), nil
}

func judgeMinimum(running, minimum string) (rollout.Finding, error) {
	order, err := CompareRelease(running, minimum)
	if err != nil {
		return rollout.Finding{}, fmt.Errorf("minimum: %w", err)
	}
	if order < 0 {
		return rollout.Finding{
			Rule: minimumRule, Drift: true, Text: "runs a kernel older than " + minimum,
			Fields: []rollout.Field{{Name: "running kernel", Before: running, After: ">= " + minimum}},
		}, nil
	}
	return rollout.Finding{Rule: minimumRule, Text: running + " is at least " + minimum}, nil
}

// Judge tells a kernel that does not run also where it may not be tried: a node on
// which it failed is none that nothing is known of.
func (m trialBoot) Judge(host string, state rollout.State, args rollout.Args) ([]rollout.Finding, error) {
	found := rollout.Finding{Rule: m.About().Rule}
	change, _, err := m.Diff(host, state, args)
	switch {
	case err == nil:
		found.Text = change.Summary
		if change.Action.Writes() {
			found.Drift, found.Text, found.Fields = true, "would "+change.Summary, change.Fields
			if change.Fields[0].Name == runningField {
				found.Fields = change.Fields[:1] // not how it would be tried
			}
		}
		return []rollout.Finding{found}, nil
	case !errors.As(err, new(*rollout.Problem)):
		return nil, err
	}
	f, err := node.Section.Get(state)
	if err != nil {
		return nil, err
	}
	to, err := present(host, f, wantedArgs(args))
	if err != nil || f.Running == to {
		return nil, nil // whoever asks Diff is told why
	}
	found.Drift, found.Text = true, "does not run "+to
	found.Fields = []rollout.Field{{Name: "running kernel", Before: f.Running, After: to}}
	return []rollout.Finding{found}, nil
}
