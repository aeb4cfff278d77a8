package view

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// Events writes a run as JSON lines while it happens, an event each, and what
// came of each host as the last one.
type Events struct{ out *Output }

// NewEvents writes to out. Lines that a slow reader misses are counted by a line
// of type "output.left_out".
func NewEvents(out *Output) *Events {
	out.mu.Lock()
	defer out.mu.Unlock()
	out.leftOut = func(n int) string { return fmt.Sprintf(`{"type":"output.left_out","lines":%d}`, n) }
	return &Events{out}
}

// Watch takes one event; it is the engine's Watch.
func (ev *Events) Watch(_ *rollout.Run, e rollout.Event) { ev.out.Line(jsonLine(e), e.Durable()) }

// End says how a run ended. journal is why it could not be written down, if so.
func (ev *Events) End(id string, r *rollout.Run, journal error) {
	ev.out.Line(jsonLine(recapOf(id, r, journal)), true)
}

func jsonLine(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // plain data: cannot fail
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}
