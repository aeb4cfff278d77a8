package view

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/fleetd/fleetd/pkg/rollout"
)

func TestRuns(t *testing.T) {
	cut := record(t, fleet(), nil).play(20, well).run
	undo, err := rollout.Reverse(runID, halted(t, nil).run, nil, nil, rollout.Basis{})
	if err != nil {
		t.Fatal(err)
	}
	rows := []RunRow{
		RowOf("20010909-014640-abcd", halted(t, nil).run, false),
		{ID: "20010910-020000-dead", Error: "event 7 comes after event 5"},
		RowOf("20010911-030000-cafe", cut, false),
		RowOf("20010911-040000-beef", cut, true),
		RowOf("20010911-050000-f00d", record(t, undo, nil).play(1<<30, well).run, false),
	}
	var out bytes.Buffer
	if err := Runs(&out, rows); err != nil {
		t.Fatal(err)
	}
	golden(t, "runs.txt", out.Bytes())
	if rows[2].Status != rollout.Interrupted || rows[3].Status != rollout.Running {
		t.Errorf("without a process %s, with one %s", rows[2].Status, rows[3].Status)
	}
}

func TestTale(t *testing.T) {
	rec := halted(t, nil)
	rec.add(0, rollout.Event{Type: rollout.RunResumed, Past: true, By: &rollout.Person{User: "ben", Host: "bastion2"}})
	rec.play(1<<30, losing)
	for name, opts := range map[string]TaleOptions{"tale.txt": {}, "tale-failed.txt": {Failed: true}, "tale-host.txt": {Host: "node1"}} {
		var out bytes.Buffer
		if err := Tale(&out, Style{}, runID, rec.stream(), opts); err != nil {
			t.Fatal(err)
		}
		golden(t, name, out.Bytes())
	}
}

func TestTaleErrors(t *testing.T) {
	rec := halted(t, nil)
	err := Tale(&bytes.Buffer{}, Style{}, runID, rec.stream(), TaleOptions{Host: "node9"})
	if err == nil || !strings.Contains(err.Error(), `has no host "node9"; it has node[1:6] (6 hosts) and the cluster`) {
		t.Errorf("%v", err)
	}
	damaged := errors.New("damaged")
	for _, opts := range []TaleOptions{{}, {Failed: true}} {
		var out bytes.Buffer
		err := Tale(&out, Style{}, runID, func(yield func(rollout.Event, error) bool) {
			_ = yield(rec.events[0], nil) && yield(rollout.Event{}, damaged)
		}, opts)
		if !errors.Is(err, damaged) {
			t.Errorf("%v", err)
		}
	}
}
