package bpf

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// Hosts reaches nodes by their inventory names; a node.Remote does.
type Hosts interface {
	Run(ctx context.Context, host string, c sshexec.Command) (sshexec.Result, error)
	Upload(ctx context.Context, host string, u sshexec.Upload) error
}

// Deps are what the modules of this package need.
type Deps struct{ Hosts Hosts }

// Modules returns the modules of this package by the names that tasks use.
func Modules(d Deps) map[string]rollout.Module {
	return map[string]rollout.Module{"fleetd.bpf.object": objectModule{d.Hosts}}
}

// objectModule is fleetd.bpf.object: the named objects are on the node, in the
// version that this fleetd holds; or, with state absent, they are not.
type objectModule struct{ hosts Hosts }

// move is what happens to one object's file. All that Do and Undo need is in
// it, so that what was reviewed is what happens.
type move struct {
	Name   string   `json:"name"`
	Path   string   `json:"path"`
	Before contents `json:"before"`
	After  contents `json:"after"`
}

// contents are a file's; the zero value is no file.
type contents struct {
	SHA256 string `json:"sha256,omitempty"`
	// Mode is in octal, as stat prints it.
	Mode string `json:"mode,omitempty"`
}

const mode = "644"

func (objectModule) About() rollout.About {
	var names []string
	for _, o := range objects {
		names = append(names, o.Name)
	}
	return rollout.About{Rule: "bpf-object", Params: rollout.Params{
		"name":    {Type: rollout.String, Choices: names, Help: "the object"},
		"objects": {Type: rollout.Strings, Choices: names, Help: "several objects; an empty list asks for none"},
		"state":   {Type: rollout.String, Choices: []string{"present", "absent"}, Help: "present (default) or absent"},
	}}
}

func (objectModule) Reads(args rollout.Args) []rollout.Read {
	// What the kernel will be is in the section's always-read part.
	reads := []rollout.Read{{Section: node.Section.Name()}}
	a, err := parseArgs(args)
	if err != nil {
		return reads // Diff is asked next, and says it
	}
	for _, o := range a.objects {
		reads = append(reads, rollout.Read{Section: node.Section.Name(), Key: node.FileKey(o.Path())})
	}
	return reads
}

type objectArgs struct {
	objects []Object
	absent  bool
}

func parseArgs(args rollout.Args) (objectArgs, error) {
	var out objectArgs
	var names []string
	name, one := args["name"]
	list, many := args["objects"]
	switch {
	case one == many:
		return out, fmt.Errorf("fleetd.bpf.object takes one of name and objects")
	case one:
		list = name
	}
	switch v := list.(type) {
	case nil: // "bpf_objects:" with nothing behind it
	case string:
		names = []string{v}
	case []string:
		names = v
	case []any:
		for _, x := range v {
			s, ok := x.(string)
			if !ok {
				return out, fmt.Errorf("objects: %v is not the name of an object", x)
			}
			names = append(names, s)
		}
	default:
		return out, fmt.Errorf("objects: %v is not a list of names", v)
	}
	for _, n := range names {
		o, err := Lookup(n)
		if err != nil {
			return out, err
		}
		if !slices.ContainsFunc(out.objects, func(x Object) bool { return x.Name == n }) {
			out.objects = append(out.objects, o)
		}
	}
	switch args["state"] {
	case nil, "present":
	case "absent":
		out.absent = true
	default:
		return out, fmt.Errorf("state: %v is neither present nor absent", args["state"])
	}
	return out, nil
}

func (objectModule) Diff(host string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	a, err := parseArgs(args)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	if len(a.objects) == 0 {
		return rollout.Change{Action: rollout.NoOp, Summary: "no BPF object is asked for"}, before, nil
	}
	facts, err := node.Section.Get(before)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	var moves []move
	for _, o := range a.objects {
		m, err := planMove(host, o, facts, a.absent)
		if err != nil {
			return rollout.Change{}, nil, err
		}
		if m.Before != m.After {
			moves = append(moves, m)
		}
	}
	if len(moves) == 0 {
		return rollout.Change{Action: rollout.NoOp, Summary: describeNoOp(a)}, before, nil
	}
	raw, err := json.Marshal(moves)
	if err != nil {
		return rollout.Change{}, nil, fmt.Errorf("cannot encode the change: %w", err)
	}
	c := rollout.Change{Action: actionOf(moves), Data: raw}
	if facts.Files = maps.Clone(facts.Files); facts.Files == nil {
		facts.Files = map[string]node.File{}
	}
	var names []string
	for _, m := range moves {
		names = append(names, m.Name)
		if m.Before.SHA256 != m.After.SHA256 {
			c.Fields = append(c.Fields, rollout.Field{Name: m.Path, Before: sum256(m.Before), After: sum256(m.After)})
		} else {
			c.Fields = append(c.Fields, rollout.Field{Name: m.Path + " mode", Before: m.Before.Mode, After: m.After.Mode})
		}
		if m.Before.SHA256 != "" && m.After.SHA256 != "" && m.Before.SHA256 != m.After.SHA256 {
			c.Reasons = append(c.Reasons, fmt.Sprintf("the node has another version of %s than this fleetd", m.Name))
		}
		after := node.File{}
		if m.After.SHA256 != "" {
			o, err := Lookup(m.Name)
			if err != nil {
				return rollout.Change{}, nil, err
			}
			after = node.File{Exists: true, SHA256: m.After.SHA256, Mode: m.After.Mode, Size: int64(len(o.Bytes))}
		}
		facts.Files[m.Path] = after
	}
	verb := "ship"
	if a.absent {
		verb = "remove"
	}
	c.Summary, c.Back = verb+" "+nameObjects(names), describeBack(moves)
	return c, node.Section.With(before, facts), nil
}

// planMove says what happens to one object's file on a host.
func planMove(host string, o Object, facts node.Facts, absent bool) (move, error) {
	f := facts.Files[o.Path()]
	m := move{Name: o.Name, Path: o.Path()}
	if f.Exists && f.SHA256 == "" {
		return m, &rollout.Problem{
			Message: fmt.Sprintf("cannot put %s on %s: there is something of that name that is no file", m.Path, host),
			Hint:    "look at it with ls -ld " + m.Path + ", and move it away",
		}
	}
	if f.Exists {
		m.Before = contents{f.SHA256, f.Mode}
	}
	if absent {
		return m, nil
	}
	m.After = contents{o.SHA256, mode}
	// Running is, by now, what runs after the trial boot that stands before
	// this task in the plan, if one does.
	v, err := ParseKernelVersion(facts.Running)
	if err != nil {
		return m, &rollout.Problem{
			Message: fmt.Sprintf("cannot tell whether BPF object %s loads on %s: %v", o.Name, host, err),
			Hint:    "it needs Linux " + o.MinimumKernel.String() + "; see uname -r there",
		}
	}
	if v.Compare(o.MinimumKernel) < 0 {
		return m, &rollout.Problem{
			Message: fmt.Sprintf("cannot ship BPF object %s to %s: it needs Linux %s, the node would run %s", o.Name, host, o.MinimumKernel, facts.Running),
			Hint:    "boot a newer kernel before this task (fleetd.kernel.package, fleetd.kernel.trial_boot), or take " + o.Name + " out of bpf_objects for this host",
		}
	}
	return m, nil
}

func actionOf(moves []move) rollout.Action {
	var action rollout.Action
	for i, m := range moves {
		a := rollout.Update
		switch {
		case m.Before.SHA256 == "":
			a = rollout.Create
		case m.After.SHA256 == "":
			a = rollout.Delete
		}
		if i > 0 && a != action {
			return rollout.Update
		}
		action = a
	}
	return action
}

func describeNoOp(a objectArgs) string {
	var names []string
	for _, o := range a.objects {
		names = append(names, o.Name)
	}
	if a.absent {
		return nameObjects(names) + " is not there"
	}
	return nameObjects(names) + " is in place"
}

// describeBack says how each file comes back: what fleetd does not hold itself
// has to be kept on the node.
func describeBack(moves []move) string {
	var parts []string
	for _, m := range moves {
		switch o, err := Lookup(m.Name); {
		case m.Before.SHA256 == "":
			parts = append(parts, "remove "+m.Path)
		case m.Before.SHA256 == m.After.SHA256:
			parts = append(parts, fmt.Sprintf("give %s mode %s again", m.Path, m.Before.Mode))
		case err == nil && m.Before.SHA256 == o.SHA256:
			parts = append(parts, "ship BPF object "+m.Name+" again")
		default:
			parts = append(parts, fmt.Sprintf("put back the %s that was there, kept on the node as %s", m.Path, kept(m.Path, m.Before.SHA256)))
		}
	}
	return strings.Join(parts, "; ")
}

func nameObjects(names []string) string {
	if len(names) == 1 {
		return "BPF object " + names[0]
	}
	return "each of the BPF objects " + strings.Join(names, ", ")
}

func sum256(c contents) string {
	if c.SHA256 == "" {
		return ""
	}
	return "sha256:" + c.SHA256
}

// Do brings the files from their state before to the one after.
func (m objectModule) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	return m.next(ctx, s, func(mv move) move { return mv })
}

// Undo brings the files back.
func (m objectModule) Undo(ctx context.Context, s rollout.Step) rollout.Outcome {
	return m.next(ctx, s, func(mv move) move { mv.Before, mv.After = mv.After, mv.Before; return mv })
}

// next does the next one of the moves, and asks to be called again. When none is
// left, every file has been read back.
func (m objectModule) next(ctx context.Context, s rollout.Step, direction func(move) move) rollout.Outcome {
	if !s.Change.Action.Writes() {
		return rollout.AlreadyDone("no BPF object of %s changes", s.Host)
	}
	var moves []move
	if err := json.Unmarshal(s.Change.Data, &moves); err != nil {
		return rollout.Fail(fmt.Errorf("cannot read what was planned for %s: %w", s.Host, err))
	}
	var is []string
	moved := false
	for _, mv := range moves {
		mv = direction(mv)
		if mv.Path != path.Join(Dir, path.Base(mv.Path)) {
			return rollout.Fail(fmt.Errorf("cannot touch %s on %s: it is not in %s", mv.Path, s.Host, Dir))
		}
		now, err := mover{ctx, m.hosts, s}.look(mv.Path)
		if err != nil {
			return rollout.Fail(err)
		}
		if now != mv.After {
			return mover{ctx, m.hosts, s}.move(mv, now)
		}
		moved = moved || s.SoFar[mv.Path] != ""
		if now.SHA256 == "" {
			is = append(is, mv.Path+" is gone")
		} else {
			is = append(is, fmt.Sprintf("%s has digest %s", mv.Path, sum256(now)))
		}
	}
	if !moved {
		return rollout.AlreadyDone("%s", strings.Join(is, "; "))
	}
	return rollout.Did("%s", strings.Join(is, "; "))
}
