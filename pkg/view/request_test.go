package view

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// TestAskedToStop shows a run that was asked to stop: on its own screen, as it stands
// for others, with and without a process at it, and told afterwards. What the reason
// holds does nothing to the terminal.
func TestAskedToStop(t *testing.T) {
	var b bytes.Buffer
	for _, verb := range []rollout.Verb{rollout.Pause, rollout.Abort} {
		var screen bytes.Buffer
		out := NewOutput(&screen)
		p := NewProgress(out, Style{}, runID, time.Now)
		rec := record(t, fleet(), p.Watch).play(3, well)
		rec.add(time.Second, rollout.Event{Type: rollout.RunRequested, Request: &rollout.Request{
			ID: 7, Verb: verb, By: rollout.Person{User: "anna"}, Reason: "the storage\x1b[2J\nis slow"}})
		p.Close()
		if err := out.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "# %s\n%s\n", verb, screen.Bytes())
		for _, held := range []bool{true, false} {
			fmt.Fprintf(&b, "# %s, held %t\n%s\n\n", verb, held, StandingOf(runID, rec.run, held, time.Second, nil, next).Verdict)
		}
		fmt.Fprintf(&b, "# %s, told\n", verb)
		if err := Tale(&b, Style{}, runID, rec.stream(), TaleOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "asked-to-stop.txt", b.Bytes())
}
