package rollout

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// Behind a command, or a step whose condition a result of the run decides, nobody knows
// in what state a host is. Steps of modules that plan
// by what was observed are looked at again there, and in the always of a block that
// may have failed, before they are done.

// Recheck is what a step is planned with anew in the run, to see that it still is
// what was reviewed.
type Recheck struct {
	Args Args `json:"args,omitempty"`
}

// UnmarshalJSON gives numbers the types that arguments have.
func (a *Args) UnmarshalJSON(raw []byte) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		return err
	}
	for name, v := range m {
		m[name] = numbers(v)
	}
	*a = m
	return nil
}

func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64() // JSON's own
		return f
	case []any:
		for i, x := range v {
			v[i] = numbers(x)
		}
	case map[string]any:
		for k, x := range v {
			v[k] = numbers(x)
		}
	}
	return v
}

// unsure tells where a host may be in another state than the plan has it.
type unsure struct {
	plays []Play
	// commands are, by play and task, the machines on which a task acts of which nobody
	// knows what it does, or whether it is done, or for which it may end the play; nil
	// for other tasks.
	commands [][]map[string]bool
}

func newUnsure(d Desired, modules map[string]Differ) unsure {
	u := unsure{plays: d.Plays, commands: make([][]map[string]bool, len(d.Plays))}
	for pi, play := range d.Plays {
		u.commands[pi] = make([]map[string]bool, len(play.Tasks))
		for ti, t := range play.Tasks {
			if t.Ends != "" {
				u.commands[pi][ti] = t.mayEnd(&play, ti)
			} else if modules[t.Module].About().Open == Exec || t.conditional() {
				u.commands[pi][ti] = t.machines()
			}
		}
	}
	return u
}

// of reports whether commands before a task may have changed what a step on a host
// is planned by: those that act on it, and, as the cluster is everywhere, those on
// this machine for a node, and all for the cluster.
func (u unsure) of(host string, play, task int) bool {
	for pi := 0; pi <= play; pi++ {
		commands := u.commands[pi]
		if pi == play {
			commands = commands[:task]
		}
		for _, on := range commands {
			if on != nil && (on[host] || on[Localhost] || host == Localhost) {
				return true
			}
		}
	}
	return u.plays[play].Blocks.Part(task) == InAlways
}

func (t Task) conditional() bool {
	for _, o := range t.Open {
		if o.Conditional() {
			return true
		}
	}
	return false
}

// machines are those that the task acts on.
func (t Task) machines() map[string]bool {
	out := map[string]bool{}
	add := func(host string) {
		if on := t.On[host]; on != "" {
			host = on
		}
		out[host] = true
	}
	for h := range t.Args {
		add(h)
	}
	for h := range t.Open {
		add(h)
	}
	return out
}

// Same says what a change is now that it was not when it was reviewed; "" = it is
// the same, or there is nothing left to do.
func (c Change) Same(now Change) string {
	if now.Action == NoOp {
		return ""
	}
	if c.Action == now.Action && c.Summary == now.Summary && slices.Equal(c.Fields, now.Fields) {
		return ""
	}
	text := now.Summary
	for _, f := range now.Fields {
		if !slices.Contains(c.Fields, f) {
			text += fmt.Sprintf("; %s: %s → %s", f.Name, or(f.Before, "(absent)"), or(f.After, "(absent)"))
		}
	}
	return text
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
