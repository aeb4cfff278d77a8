package module

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"time"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/words"
)

// waited is how long an item of a step has waited, by the run's clock, and the note
// that a later call tells it by.
func waited(s rollout.Step) (time.Duration, string) {
	since, err := time.ParseDuration(s.SoFar[sinceNote])
	if err != nil {
		since = s.Now // this is the first call
	}
	return s.Now - since, since.String()
}

const sinceNote = "since"

func seconds(args rollout.Args, name string, usual int64) int64 {
	if n, ok := args[name].(int64); ok {
		return max(n, 0)
	}
	return usual
}

func inSeconds(n int64) time.Duration { return time.Duration(n) * time.Second }

// waitFor is ansible.builtin.wait_for. It looks every so often; nothing on the node
// waits meanwhile.
type waitFor struct{ observing }

// condition is what is waited for.
type condition struct {
	Host    string `json:"host"`
	Port    int64  `json:"port,omitempty"`
	Path    string `json:"path,omitempty"`
	Regex   string `json:"search_regex,omitempty"`
	State   string `json:"state"`
	Timeout int64  `json:"timeout"`
	Connect int64  `json:"connect_timeout"`
	Delay   int64  `json:"delay,omitempty"`
	Sleep   int64  `json:"sleep"`
	Msg     string `json:"msg,omitempty"`
}

func (waitFor) About() rollout.About {
	return rollout.About{Open: rollout.ReadOnly, Params: rollout.Params{
		"host":            {Type: rollout.String, Help: "where the port is (127.0.0.1)"},
		"port":            {Type: rollout.Int, Help: "a TCP port that answers, or does not"},
		"path":            {Type: rollout.String, Help: "a file that is there, or is not"},
		"search_regex":    {Type: rollout.String, Help: "what the file or the port has to say: a line of it"},
		"state":           {Type: rollout.String, Choices: []string{"started", "present", "stopped", "absent"}, Help: "started or present (true), stopped or absent"},
		"timeout":         {Type: rollout.Int, Help: "how many seconds to wait at most (300)"},
		"connect_timeout": {Type: rollout.Int, Help: "how many seconds to wait for a port to answer (5)"},
		"delay":           {Type: rollout.Int, Help: "how many seconds to wait before the first look"},
		"sleep":           {Type: rollout.Int, Help: "how many seconds to wait between looks (1)"},
		"msg":             {Type: rollout.String, Help: "what to say where it does not come"},
	}}
}

func (waitFor) Diff(_ string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	c := condition{
		Host: or(text(args, "host"), "127.0.0.1"), Path: text(args, "path"), Regex: text(args, "search_regex"), State: or(text(args, "state"), "started"), Msg: text(args, "msg"),
		Timeout: seconds(args, "timeout", 300), Connect: seconds(args, "connect_timeout", 5), Delay: seconds(args, "delay", 0), Sleep: max(seconds(args, "sleep", 1), 1),
		Port: seconds(args, "port", 0),
	}
	var err error
	switch {
	case c.Port != 0 && c.Path != "":
		err = errors.New("port and path parameter can not both be passed to wait_for")
	case c.Port > 65535:
		err = fmt.Errorf("there is no port %d", c.Port)
	case c.Path != "" && c.State == "stopped":
		err = errors.New("state=stopped should only be used for checking a port in the wait_for module")
	case c.Regex != "":
		_, err = regexp.Compile("(?m)" + c.Regex)
	}
	if err != nil {
		return rollout.Change{}, nil, &rollout.Problem{Message: fmt.Sprintf("cannot wait: %v", err)}
	}
	return rollout.Change{Action: rollout.ReadOnly, Summary: "wait for " + oneLine(c.String()), Data: encode(c)}, before, nil
}

func (c condition) String() string {
	switch {
	case c.Path != "" && c.gone():
		return c.Path + " to be absent"
	case c.Path != "":
		return "file " + c.Path
	case c.Port != 0 && c.gone():
		return fmt.Sprintf("%s:%d to stop", c.Host, c.Port)
	case c.Port != 0:
		return fmt.Sprintf("%s:%d", c.Host, c.Port)
	}
	return fmt.Sprintf("%d seconds", c.Timeout)
}

func (c condition) gone() bool { return c.State == "absent" || c.State == "stopped" }

// mostSaid bounds what of a port or a line is looked at.
const mostSaid = 64 << 10

// script says "note holds y" where the condition does, and what was said.
func (c condition) script(left int64) string {
	p := expanded(c.Path)
	switch {
	case c.Path == "":
	case c.gone():
		return node.LookScript(nil, "[ -e "+p+" ] || echo note holds y\n") + "sees\n"
	case c.Regex == "":
		return node.LookScript([]string{p}, "[ ! -e "+p+" ] || echo note holds y\n") + "sees\n"
	default:
		// Python's expressions are nearer to Perl's than to those of POSIX.
		pattern := words.Quote(c.Regex)
		return node.LookScript([]string{p}, "if printf x | grep -qP x 2>/dev/null; then kind=-P; else kind=-E; fi\n"+
			"[ ! -f "+p+" ] || ! grep -qa $kind -e "+pattern+" <"+p+" || { echo note holds y; printf 'note said %s\\n' \"$(grep -a -m 1 $kind -e "+pattern+" <"+p+" | head -c 65536 | hex)\"; }\n") + "sees\n"
	}
	// A shell that is no bash cannot talk to a port.
	host, port := words.Quote(c.Host), strconv.FormatInt(c.Port, 10)
	connect := max(min(c.Connect, left), 1)
	talk := "exec 3<>\"/dev/tcp/$1/$2\" || exit 1; [ -z \"$3\" ] || head -c 65536 <&3"
	read := ""
	if c.Regex != "" {
		read = "y"
	}
	return node.LookScript(nil, "command -v bash >/dev/null && command -v timeout >/dev/null || echo note unable y\n"+
		fmt.Sprintf("said=$(timeout %d bash -c %s bash %s %s %s 2>/dev/null | hex)\n", connect, words.Quote(talk), host, port, words.Quote(read))+
		fmt.Sprintf("timeout %d bash -c %s bash %s %s '' 2>/dev/null && echo note holds y\n", connect, words.Quote(talk), host, port)+
		"printf 'note said %s\\n' \"$said\"\n") + "sees\n"
}

func (m waitFor) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	var c condition
	if err := json.Unmarshal(s.Change.Data, &c); err != nil {
		return rollout.Fail(fmt.Errorf("cannot read what is waited for: %w", err))
	}
	elapsed, since := waited(s)
	if elapsed < inSeconds(c.Delay) {
		return rollout.WaitFor(inSeconds(c.Delay)-elapsed, "looks for %s later", c).Note(sinceNote, since)
	}
	if c.Path == "" && c.Port == 0 {
		if end := inSeconds(c.Delay + c.Timeout); elapsed < end {
			return rollout.WaitFor(end-elapsed, "waits").Note(sinceNote, since)
		}
		return c.came(elapsed, nil, node.Place{})
	}
	res, err := run(ctx, m.hosts, s, sshexec.Command{Script: c.script(c.Timeout - int64(elapsed/time.Second)), Timeout: lookTimeout, MaxOutput: 4 * mostSaid})
	if err != nil {
		return rollout.Fail(err)
	}
	seen, err := node.ParseLook(res)
	if err == nil && seen.Notes["unable"] != "" {
		err = errors.New("a port is asked with bash and timeout, and the node has not both")
	}
	if err != nil {
		return rollout.Fail(fmt.Errorf("cannot look for %s on %s: %w", c, s.Host, err))
	}
	groups, holds := c.holds(seen)
	switch {
	case holds:
		var at node.Place
		if len(seen.Places) > 0 {
			at = seen.Places[0]
		}
		return c.came(elapsed, groups, at)
	case elapsed >= inSeconds(c.Timeout):
		return c.late(s.Host, elapsed)
	}
	return rollout.WaitFor(inSeconds(c.Sleep), "waits for %s", c).Note(sinceNote, since)
}

// holds reports whether what was seen is what is waited for, and the groups of the
// expression.
func (c condition) holds(seen node.Seen) ([]string, bool) {
	holds := seen.Notes["holds"] != ""
	if c.Port != 0 && c.gone() {
		return nil, !holds
	}
	if !holds || c.Regex == "" {
		return nil, holds
	}
	said, err := hex.DecodeString(seen.Notes["said"])
	re := regexp.MustCompile("(?m)" + c.Regex) // Diff has compiled it
	groups := re.FindSubmatch(said)
	if err != nil || groups == nil {
		return nil, false
	}
	var out []string
	for _, g := range groups[1:] {
		out = append(out, printed(g))
	}
	return out, true
}

func (c condition) result(elapsed time.Duration) map[string]any {
	r := map[string]any{"changed": false, "failed": false, "elapsed": int64(elapsed / time.Second)}
	return r
}

func (c condition) came(elapsed time.Duration, groups []string, at node.Place) rollout.Outcome {
	r := c.result(elapsed)
	r["state"], r["port"], r["path"], r["search_regex"], r["match_groups"], r["match_groupdict"] = c.State, nil, nil, nil, []string{}, map[string]string{}
	if c.Port != 0 {
		r["port"] = c.Port
	}
	if c.Path != "" {
		r["path"] = or(at.Path, c.Path)
	}
	if at.Self != nil {
		info(r, at)
	}
	if c.Regex != "" {
		r["search_regex"] = c.Regex
		named := map[string]string{}
		for i, name := range regexp.MustCompile("(?m)" + c.Regex).SubexpNames() {
			if name != "" && i-1 < len(groups) {
				named[name] = groups[i-1]
			}
		}
		r["match_groupdict"] = named
		if groups != nil {
			r["match_groups"] = groups
		}
	}
	o := rollout.AlreadyDone("waited %d seconds for %s", int64(elapsed/time.Second), c)
	o.Result = encode(r)
	return o
}

// late is the failure of what has not come.
func (c condition) late(host string, elapsed time.Duration) rollout.Outcome {
	msg := "Timeout when waiting for " + c.String()
	switch {
	case c.gone():
		msg += "."
		if c.Path != "" {
			msg = "Timeout when waiting for " + c.Path + " to be absent."
		}
	case c.Regex != "" && c.Port != 0:
		msg = fmt.Sprintf("Timeout when waiting for search string %s in %s:%d", c.Regex, c.Host, c.Port)
	case c.Regex != "":
		msg = fmt.Sprintf("Timeout when waiting for search string %s in %s", c.Regex, c.Path)
	}
	msg = or(c.Msg, msg)
	o := rollout.Outcome{Kind: rollout.Failed, Message: fmt.Sprintf("%s: %s", host, msg)}
	r := c.result(elapsed)
	r["failed"], r["msg"] = true, msg
	o.Result = encode(r)
	return o
}

// waitForConnection is ansible.builtin.wait_for_connection.
type waitForConnection struct{ observing }

func (waitForConnection) About() rollout.About {
	return rollout.About{Open: rollout.ReadOnly, Params: rollout.Params{
		"timeout":         {Type: rollout.Int, Help: "how many seconds to wait at most (600)"},
		"connect_timeout": {Type: rollout.Int, Help: "how many seconds one try may take (5)"},
		"delay":           {Type: rollout.Int, Help: "how many seconds to wait before the first try"},
		"sleep":           {Type: rollout.Int, Help: "how many seconds to wait between tries (1)"},
	}}
}

func (waitForConnection) Diff(_ string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	c := condition{Timeout: seconds(args, "timeout", 600), Connect: seconds(args, "connect_timeout", 5), Delay: seconds(args, "delay", 0), Sleep: max(seconds(args, "sleep", 1), 1)}
	return rollout.Change{Action: rollout.ReadOnly, Summary: fmt.Sprintf("wait for the connection, %d seconds at most", c.Timeout), Data: encode(c)}, before, nil
}

func (m waitForConnection) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	var c condition
	if err := json.Unmarshal(s.Change.Data, &c); err != nil {
		return rollout.Fail(fmt.Errorf("cannot read what is waited for: %w", err))
	}
	elapsed, since := waited(s)
	if elapsed < inSeconds(c.Delay) {
		return rollout.WaitFor(inSeconds(c.Delay)-elapsed, "tries later").Note(sinceNote, since)
	}
	r := c.result(elapsed)
	res, err := run(ctx, m.hosts, s, sshexec.Command{Script: "echo pong", Timeout: inSeconds(max(c.Connect, 1))})
	switch {
	case err == nil && string(res.Stdout) == "pong\n":
		o := rollout.AlreadyDone("answers, after %d seconds", int64(elapsed/time.Second))
		o.Result = encode(r)
		return o
	case err == nil:
		err = fmt.Errorf("exit status %d: %s", res.ExitStatus, lastLine(res.Stderr))
	}
	if elapsed < inSeconds(c.Delay+c.Timeout) {
		return rollout.WaitFor(inSeconds(c.Sleep), "does not answer yet: %s", oneLine(err.Error())).Note(sinceNote, since)
	}
	o := rollout.Outcome{Kind: rollout.Failed, Message: fmt.Sprintf("%s does not answer after %d seconds: %v", s.Host, int64(elapsed/time.Second), err)}
	r["failed"], r["msg"] = true, "timed out waiting for ping module test: "+err.Error()
	o.Result = encode(r)
	return o
}

// pause is ansible.builtin.pause for a time: nobody is asked in a run.
type pause struct{ touchless }

func (pause) About() rollout.About {
	return rollout.About{Open: rollout.ReadOnly, Params: rollout.Params{
		"seconds": {Type: rollout.Int, Help: "how many seconds"},
		"minutes": {Type: rollout.Int, Help: "how many minutes"},
		"prompt":  {Type: rollout.String, Help: "refused: fleetd asks nobody in a run"},
		"echo":    {Type: rollout.Bool, Help: "refused: fleetd asks nobody in a run"},
	}}
}

// pausing is how long, and in which unit it is told.
type pausing struct {
	Seconds int64  `json:"seconds"`
	Unit    string `json:"unit"`
}

func (pause) Diff(_ string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	c := pausing{Seconds: seconds(args, "seconds", -1), Unit: "seconds"}
	if m := seconds(args, "minutes", -1); m >= 0 && c.Seconds < 0 {
		c = pausing{Seconds: m * 60, Unit: "minutes"}
	} else if m >= 0 {
		return rollout.Change{}, nil, &rollout.Problem{Message: "pause takes seconds or minutes, not both"}
	}
	_, prompts := args["prompt"]
	_, echoes := args["echo"]
	if c.Seconds < 0 || prompts || echoes {
		return rollout.Change{}, nil, &rollout.Problem{
			Message: "cannot pause until somebody answers: a run goes on without anybody at the screen",
			Hint:    "give seconds or minutes; or make two playbooks of it, and apply the second one when it is time",
		}
	}
	c.Seconds = max(c.Seconds, 1)
	return rollout.Change{Action: rollout.ReadOnly, Summary: fmt.Sprintf("pause for %d seconds", c.Seconds), Data: encode(c)}, before, nil
}

func (pause) Do(_ context.Context, s rollout.Step) rollout.Outcome {
	var c pausing
	if err := json.Unmarshal(s.Change.Data, &c); err != nil {
		return rollout.Fail(fmt.Errorf("cannot read how long to pause: %w", err))
	}
	elapsed, since := waited(s)
	if left := inSeconds(c.Seconds) - elapsed; left > 0 {
		return rollout.WaitFor(left, "pauses for %d seconds", c.Seconds).Note(sinceNote, since)
	}
	took := elapsed.Seconds()
	if c.Unit == "minutes" {
		took /= 60
	}
	o := rollout.AlreadyDone("paused for %d seconds", c.Seconds)
	o.Result = encode(map[string]any{
		"changed": false, "failed": false, "rc": 0, "stderr": "", "delta": int64(elapsed.Seconds()), "echo": true, "user_input": "",
		"stdout": fmt.Sprintf("Paused for %s %s", strconv.FormatFloat(math.Round(took*100)/100, 'f', -1, 64), c.Unit),
	})
	return o
}
