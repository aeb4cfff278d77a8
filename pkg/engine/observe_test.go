package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// reader is a module that reads one key of section "s".
type reader struct {
	module
	key string
}

func (r reader) Reads(rollout.Args) []rollout.Read {
	return []rollout.Read{{Section: "s", Key: r.key}}
}

type observer struct{ asked map[string][]string }

func (*observer) Section() string { return "s" }
func (o *observer) Observe(_ context.Context, keys map[string][]string) map[string]rollout.SectionObservation {
	o.asked = keys
	return map[string]rollout.SectionObservation{
		"a": {Value: []byte(`1`), Identity: map[string]string{"machine_id": "m"}, Down: "Node is NotReady", ControlPlane: true},
		"b": {Err: errors.New("down")},
	}
}

func TestObserve(t *testing.T) {
	both := map[string]rollout.Args{"a": nil, "b": nil}
	d := rollout.Desired{Plays: []rollout.Play{{Tasks: []rollout.Task{{Module: "x", Args: both}, {Module: "y", Args: both}, {Module: "x", Args: both}}}}}
	mods := map[string]rollout.Module{"x": reader{key: "2"}, "y": reader{key: "1"}}
	o := &observer{}
	got, err := Observe(t.Context(), d, mods, []rollout.Observer{o})
	if err != nil {
		t.Fatal(err)
	}
	level := func(o rollout.Observation) int {
		n, err := rollout.NewSection[int]("s").Get(o.State)
		if err != nil {
			t.Error(err)
		}
		return n
	}
	if fmt.Sprint(o.asked) != "map[a:[1 2] b:[1 2]]" {
		t.Errorf("asked for %v: each key once, sorted", o.asked)
	}
	if level(got["a"]) != 1 || got["a"].Problem != nil || got["b"].Problem == nil {
		t.Errorf("observed %+v", got)
	}
	if a := got["a"]; a.Identity["machine_id"] != "m" || a.Down == "" || !a.ControlPlane {
		t.Errorf("observed %+v", a)
	}
	if _, err := Observe(t.Context(), d, mods, nil); err == nil || !strings.Contains(err.Error(), `nobody observes section "s"`) {
		t.Errorf("no observer: %v", err)
	}
	if got, err = Look(t.Context(), map[string][]string{"s": {"a"}}, []rollout.Observer{o}); err != nil || level(got["a"]) != 1 || len(got) != 1 {
		t.Errorf("looked at %+v, %v", got, err)
	}
	if fmt.Sprint(o.asked) != "map[a:[]]" {
		t.Errorf("asked for %v", o.asked)
	}
}
