package module

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/words"
)

// Hosts reaches nodes by their inventory names; a node.Fleet does.
type Hosts interface {
	Run(ctx context.Context, host string, c sshexec.Command) (sshexec.Result, error)
	// Forget closes the connection to the host.
	Forget(host string)
}

// run runs a command for a step, as the user that it is for.
func run(ctx context.Context, h Hosts, s rollout.Step, c sshexec.Command) (sshexec.Result, error) {
	c.Become, c.BecomeAs = s.Become, sshexec.BecomeAs(s.BecomeAs)
	return h.Run(ctx, s.Host, c)
}

// Modules returns the modules of this package by the names that tasks use.
func Modules(h Hosts) map[string]rollout.Module {
	return map[string]rollout.Module{
		"ansible.builtin.command":             command{hosts: h, name: "command"},
		"ansible.builtin.shell":               command{hosts: h, name: "shell"},
		"ansible.builtin.raw":                 command{hosts: h, name: "raw"},
		"ansible.builtin.script":              script{command{hosts: h, name: "script"}},
		"ansible.builtin.debug":               debug{},
		"ansible.builtin.meta":                meta{hosts: h},
		"ansible.builtin.assert":              assert{},
		"ansible.builtin.fail":                fail{},
		"ansible.builtin.include_vars":        includeVars{},
		"ansible.builtin.set_fact":            setFact{},
		"ansible.builtin.ping":                ping{observing{h}},
		"ansible.builtin.stat":                statModule{observing{h}},
		"ansible.builtin.slurp":               slurp{observing{h}},
		"ansible.builtin.wait_for":            waitFor{observing{h}},
		"ansible.builtin.wait_for_connection": waitForConnection{observing{h}},
		"ansible.builtin.pause":               pause{},
		"ansible.builtin.setup":               setup{gatherer{observing{h}}},
		"ansible.builtin.service_facts":       serviceFacts{gatherer{observing{h}}},
		"ansible.builtin.package_facts":       packageFacts{gatherer{observing{h}}},
		"ansible.builtin.file":                fileModule{converger{h}},
		"ansible.builtin.copy":                copyModule{converger{h}},
		"ansible.builtin.template":            templateModule{converger{h}},
	}
}

// mostOutput bounds what is kept of each output stream of a command, in bytes: it
// is in the journal, and in memory for as long as the run lasts.
const mostOutput = 256 << 10

// command is ansible.builtin.command, which no shell reads, ansible.builtin.shell
// and ansible.builtin.raw, which needs nothing but a shell. To fleetd the last two
// are the same; what they register is not.
type command struct {
	hosts Hosts
	name  string
}

// call is what is run. All that Do needs is in it.
type call struct {
	// Line is the command on one line; Words are those of one that no shell reads.
	Line  string   `json:"line"`
	Words []string `json:"words,omitempty"`
	// Script is what the node's shell runs.
	Script string `json:"script"`
	Stdin  string `json:"stdin,omitempty"`
	// File is the script of the bastion that is sent to it.
	File    string `json:"file,omitempty"`
	Creates string `json:"creates,omitempty"`
	Removes string `json:"removes,omitempty"`
	// Guard prints the files that creates and removes name, one letter each.
	Guard string            `json:"guard,omitempty"`
	Env   map[string]string `json:"env,omitempty"`
	// Bare is set where the result says only how it ended and what it printed.
	Bare bool `json:"bare,omitempty"`
	// KeepEnds keeps the newlines at the end of what it prints.
	KeepEnds bool `json:"keep_ends,omitempty"`
}

// cmd is the command as Ansible's result names it.
func (c call) cmd() any {
	if c.Words != nil {
		return c.Words
	}
	return c.Line
}

func (m command) About() rollout.About {
	if m.name == "raw" {
		return rollout.About{Open: rollout.Exec, Params: rollout.Params{
			"cmd":        {Type: rollout.String, FreeForm: true, Help: "the command line"},
			"executable": {Type: rollout.String, Help: "the shell that reads it (/bin/sh)"},
		}}
	}
	p := rollout.Params{
		"cmd":               {Type: rollout.String, FreeForm: true, Help: "the command and its arguments"},
		"chdir":             {Type: rollout.String, Help: "the folder to run it in"},
		"creates":           {Type: rollout.String, Help: "a path or a pattern of paths: nothing is run where one is there"},
		"removes":           {Type: rollout.String, Help: "a path or a pattern of paths: nothing is run where none is there"},
		"stdin":             {Type: rollout.String, Help: "what it reads from its standard input"},
		"stdin_add_newline": {Type: rollout.Bool, Help: "a newline at the end of stdin (true)"},
		"strip_empty_ends":  {Type: rollout.Bool, Help: "no newlines at the end of what it prints (true)"},
	}
	p[rollout.EnvironmentParam] = rollout.Param{Type: rollout.Environment, Help: "variables for its environment"}
	if m.name == "command" {
		p["argv"] = rollout.Param{Type: rollout.Strings, Help: "the program and its arguments, word for word, instead of cmd"}
	} else {
		p["executable"] = rollout.Param{Type: rollout.String, Help: "the shell that reads it (/bin/sh)"}
	}
	return rollout.About{Params: p, Open: rollout.Exec}
}

// Reads looks at the machine, to know that it is the one that was reviewed and can
// be reached; what a command does nothing tells beforehand.
func (command) Reads(rollout.Args) []rollout.Read {
	return []rollout.Read{{Section: node.Section.Name(), Key: node.MachineKey}}
}

func (m command) Diff(host string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	c, err := m.call(args)
	if err != nil {
		return rollout.Change{}, nil, &rollout.Problem{Message: fmt.Sprintf("cannot run %s on %s: %v", m.name, host, err)}
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return rollout.Change{}, nil, fmt.Errorf("cannot encode the command: %w", err)
	}
	out := rollout.Change{Action: rollout.Exec, Summary: "run: " + oneLine(c.Line), Data: raw}
	if c.Creates != "" {
		out.Reasons = append(out.Reasons, "only where there is no "+c.Creates)
	}
	if c.Removes != "" {
		out.Reasons = append(out.Reasons, "only where there is "+c.Removes)
	}
	after, err := unsure(before)
	return out, after, err
}

// oneLine is a command for one line of a plan.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func text(args rollout.Args, name string) string {
	s, _ := args[name].(string)
	return s
}

// flag is a parameter that is true where it is not given.
func flag(args rollout.Args, name string) bool {
	b, given := args[name].(bool)
	return b || !given
}

// env are the variables that the keyword environment gives.
func env(args rollout.Args) map[string]string {
	vars, _ := args[rollout.EnvironmentParam].(map[string]any)
	if len(vars) == 0 {
		return nil
	}
	out := make(map[string]string, len(vars))
	for name, v := range vars {
		out[name], _ = v.(string) // the compiler has made them texts
	}
	return out
}

func (m command) call(args rollout.Args) (call, error) {
	c := call{Line: text(args, "cmd"), Stdin: text(args, "stdin"), Creates: text(args, "creates"), Removes: text(args, "removes")}
	var run string
	switch argv, _ := args["argv"].([]any); {
	case m.name == "shell", m.name == "raw":
		exe := text(args, "executable")
		run = c.Line
		if exe == "" {
			exe = "/bin/sh"
		}
		if exe != "/bin/sh" || text(args, "chdir") != "" {
			run = "exec " + words.Quote(exe, "-c", c.Line)
		}
	case len(argv) > 0 && c.Line != "":
		return c, errors.New("it takes cmd or argv, not both")
	case len(argv) > 0:
		given := make([]string, len(argv))
		for i, w := range argv {
			given[i], _ = w.(string) // the compiler has made them texts
		}
		c.Line, c.Words = words.Quote(given...), given
		run = program(given)
	default:
		var err error
		if c.Words, err = split(c.Line); err != nil {
			return c, err
		}
		run = program(c.Words)
	}
	if strings.TrimSpace(c.Line) == "" {
		return c, errors.New("no command is given")
	}
	c.Guard = guard("c", c.Creates) + guard("r", c.Removes)
	if dir := text(args, "chdir"); dir != "" {
		there := "CDPATH= cd -- " + folder(dir) + " || exit\n"
		run = there + run
		if c.Guard != "" {
			c.Guard = there + c.Guard
		}
	}
	c.Script, c.Env = run, env(args)
	if c.Stdin != "" && flag(args, "stdin_add_newline") {
		c.Stdin += "\n"
	}
	c.Bare = m.name == "raw"
	c.KeepEnds = c.Bare || !flag(args, "strip_empty_ends")
	return c, nil
}

func (m command) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	var c call
	if err := json.Unmarshal(s.Change.Data, &c); err != nil {
		return rollout.Fail(fmt.Errorf("cannot read the command: %w", err))
	}
	if c.Guard != "" {
		if o, done := m.guarded(ctx, s, c); done {
			return o
		}
	}
	switch began := s.SoFar[beganNote]; {
	case began == "":
		return rollout.Intend(beganNote, fmt.Sprint(s.Attempt))
	case began != fmt.Sprint(s.Attempt) && c.Guard == "":
		return rollout.Outcome{
			Kind:    rollout.Failed,
			Message: fmt.Sprintf("fleetd was cut off while %q ran on %s: it ran, wholly or in part, and is not run again", oneLine(c.Line), s.Host),
			Hint:    "look at the host; then apply again, or give the task creates or removes, by which fleetd can tell whether it has to run",
		}
	}
	res, err := run(ctx, m.hosts, s, sshexec.Command{Script: c.Script, Stdin: c.input(s), Env: c.Env, MaxOutput: mostOutput})
	if err != nil {
		return rollout.Fail(err)
	}
	return m.outcome(s.Host, c, res)
}

// beganNote keeps the attempt that ran the command.
const beganNote = "began"

// guarded looks whether creates or removes say that there is nothing to run.
func (m command) guarded(ctx context.Context, s rollout.Step, c call) (rollout.Outcome, bool) {
	res, err := run(ctx, m.hosts, s, sshexec.Command{Script: c.Guard, Env: c.Env})
	if err == nil && !res.OK() {
		err = fmt.Errorf("cannot look for %s on %s: exit status %d: %s", oneLine(c.Creates+" "+c.Removes), s.Host, res.ExitStatus, lastLine(res.Stderr))
	}
	if err != nil {
		return rollout.Fail(err), true
	}
	seen := string(res.Stdout)
	file, why := c.Creates, "exists"
	switch {
	case c.Creates != "" && strings.Contains(seen, "c"):
	case c.Removes != "" && !strings.Contains(seen, "r"):
		file, why = c.Removes, "does not exist"
	default:
		return rollout.Outcome{}, false
	}
	o := rollout.AlreadyDone("skipped, since %s %s", file, why)
	if c.File != "" {
		o.Kind = rollout.Skipped
		which := map[string]string{"exists": "creates", "does not exist": "removes"}[why]
		o.Result = encode(map[string]any{"changed": false, "failed": false, "skipped": true, "msg": fmt.Sprintf("%s %s, matching %s option", file, why, which)})
		return o, true
	}
	o.Result = encode(result{
		Cmd: c.cmd(), Stdout: o.Message, StdoutLines: lines(o.Message), StderrLines: []string{},
		Msg: fmt.Sprintf("Did not run command since '%s' %s", file, why),
	})
	return o, true
}

// result is what is registered, in Ansible's names.
type result struct {
	Changed     bool     `json:"changed"`
	Failed      bool     `json:"failed"`
	Cmd         any      `json:"cmd"` // a text for a shell, else a list of words
	RC          int      `json:"rc"`
	Stdout      string   `json:"stdout"`
	StdoutLines []string `json:"stdout_lines"`
	Stderr      string   `json:"stderr"`
	StderrLines []string `json:"stderr_lines"`
	Msg         string   `json:"msg"`
}

// bare is the result without what was run, and with a message only of a failure.
func (r result) bare() json.RawMessage {
	out := map[string]any{
		"changed": r.Changed, "failed": r.Failed, "rc": r.RC,
		"stdout": r.Stdout, "stdout_lines": r.StdoutLines, "stderr": r.Stderr, "stderr_lines": r.StderrLines,
	}
	if r.Failed {
		out["msg"] = r.Msg
	}
	return encode(out)
}

// input is what the command reads: a script of the bastion itself, or its stdin.
func (c call) input(s rollout.Step) io.Reader {
	if c.File != "" {
		return bytes.NewReader(s.Change.Content)
	}
	return strings.NewReader(c.Stdin)
}

func (m command) outcome(host string, c call, res sshexec.Result) rollout.Outcome {
	r := result{Changed: true, Cmd: c.cmd(), RC: res.ExitStatus, Stdout: printed(res.Stdout), Stderr: printed(res.Stderr)}
	if !c.KeepEnds {
		r.Stdout, r.Stderr = strings.TrimRight(r.Stdout, "\r\n"), strings.TrimRight(r.Stderr, "\r\n")
	}
	r.StdoutLines, r.StderrLines = lines(r.Stdout), lines(r.Stderr)
	o := rollout.Did("exit status 0")
	if last := lastLine(res.Stdout); last != "" {
		o.Message = last
	}
	if !res.OK() {
		r.Failed, r.Msg = true, "non-zero return code"
		if res.Signal != "" && r.RC > 128 {
			r.RC = 128 - r.RC // Python's way to tell a signal
		}
		why := fmt.Sprintf("exit status %d", res.ExitStatus)
		if res.Signal != "" {
			why = "ended by signal " + res.Signal
		}
		if said := lastLine(append(append(res.Stdout, '\n'), res.Stderr...)); said != "" {
			why += ": " + said
		}
		o = rollout.Outcome{Kind: rollout.Failed, Message: fmt.Sprintf("%q failed on %s: %s", oneLine(c.Line), host, why)}
	}
	o.Result = encode(r)
	if c.Bare {
		o.Result = r.bare()
	}
	return o.Note(beganNote, "") // its end was seen
}

// printed is output as text, with U+FFFD for each byte that is none.
func printed(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return string([]rune(string(b)))
}

// lines splits a text at all that Python's str.splitlines takes for a line's end.
func lines(s string) []string {
	out := []string{}
	for s != "" {
		i := strings.IndexAny(s, "\n\r\v\f\x1c\x1d\x1e\u0085\u2028\u2029")
		if i < 0 {
			return append(out, s)
		}
		out = append(out, s[:i])
		_, n := utf8.DecodeRuneInString(s[i:])
		if strings.HasPrefix(s[i:], "\r\n") {
			n = 2
		}
		s = s[i+n:]
	}
	return out
}

// lastLine is the last line of output that says anything, shortened.
func lastLine(b []byte) string {
	all := lines(strings.TrimRight(printed(b), " \t\r\n"))
	if len(all) == 0 {
		return ""
	}
	last := []rune(all[len(all)-1])
	const most = 200
	if len(last) > most {
		last = append(last[:most], '…')
	}
	return string(last)
}

func encode(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		// The values come from JSON or are texts and numbers.
		return json.RawMessage("{}")
	}
	return raw
}

// Undo does nothing: nobody knows what takes a command back. The plan of an undo
// says so.
func (m command) Undo(context.Context, rollout.Step) rollout.Outcome {
	return rollout.AlreadyDone("nothing takes a command back; look at the host if it matters")
}
