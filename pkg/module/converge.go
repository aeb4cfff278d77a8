package module

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/words"
)

//go:embed act.sh
var actFunctions string

// keptDir is where the act script keeps what it replaces.
const keptDir = "/var/lib/fleetd/kept"

// converger brings one path to what a task wishes for; file, copy and template are
// ones.
type converger struct{ hosts Hosts }

// took is what was seen before anything was changed: it is durable before the
// change, and what an undo goes by.
type took struct {
	Path string `json:"path"`
	former
	// Made is the topmost of the directories that were missing.
	Made string `json:"made,omitempty"`
	// Stamp ends the name of the backup.
	Stamp string `json:"stamp,omitempty"`
	// Kept is the name of the copy in keptDir.
	Kept string `json:"kept,omitempty"`
	// After is what the change leaves.
	After former `json:"after"`
	// Modes are those that were decided on, by path.
	Modes map[string]uint32 `json:"modes,omitempty"`
	// Result is what the step registers, but for what is read back.
	Result map[string]any `json:"result"`
}

// look is the script that looks at what the wish depends on.
func (w wish) look() string {
	var argv []string
	for _, a := range w.asks() {
		argv = append(argv, a.word)
	}
	var more strings.Builder
	if w.Owner != "" {
		fmt.Fprintf(&more, "printf 'note uid %%s\\n' \"$(id -u -- %s 2>/dev/null)\"\n", words.Quote(w.Owner))
	}
	if w.Group != "" {
		fmt.Fprintf(&more, "printf 'note gid %%s\\n' \"$(getent group %s 2>/dev/null | cut -d : -f 3)\"\n", words.Quote(w.Group))
	}
	p := expanded(w.Path)
	if w.Recurse {
		more.WriteString(belowScript(p, w.Follow))
	}
	if w.State == node.Symlink && w.Force {
		more.WriteString("[ -d " + p + " ] && [ -z \"$(ls -A -- " + p + ")\" ] && echo note empty y\n")
	}
	if w.State == node.Directory || w.State == contentState && strings.HasSuffix(w.Path, "/") {
		more.WriteString("top= at=" + p + "\nwhile [ -n \"$at\" ] && [ ! -e \"$at\" ]; do top=$at; case ${at%/} in */*) at=${at%/}; at=${at%/*} ;; *) break ;; esac; done\nprintf 'note made %s\\n' \"$(printf %s \"$top\" | hex)\"\n")
	}
	if w.Backup {
		more.WriteString("printf 'note stamp %s\\n' \"$$.$(date +%Y-%m-%d@%H:%M:%S~)\"\n")
	}
	if w.State == contentState && w.Src != "" {
		src := expanded(w.Src)
		more.WriteString("[ -f " + src + " ] && printf 'note md5 %s\\n' \"$(md5sum <" + src + " | cut -c 1-32)\"\n")
	}
	return node.LookScript(argv, more.String())
}

// seen is what the node answered.
func (w wish) seen(res sshexec.Result) (scene, error) {
	got, err := node.ParseLook(res)
	if err != nil {
		return scene{}, err
	}
	asks := w.asks()
	if len(got.Places) != len(asks) {
		return scene{}, errors.New("the node has not looked at all paths")
	}
	s := scene{places: map[string]node.Place{}, umask: got.Umask, notes: got.Notes}
	for i, a := range asks {
		s.places[a.name] = got.Places[i]
	}
	return s, nil
}

// tookNote keeps what was taken, rollout.WasNote, so that the undo finds it.
const tookNote = rollout.WasNote

const mostLook = 8 << 20

func (m converger) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	var w wish
	if err := json.Unmarshal(s.Change.Data, &w); err != nil {
		return rollout.Fail(fmt.Errorf("cannot read what was planned for %s: %w", s.Host, err))
	}
	res, err := run(ctx, m.hosts, s, sshexec.Command{Script: w.look() + "sees\n", Timeout: lookTimeout, MaxOutput: mostLook})
	if err != nil {
		return rollout.Fail(err)
	}
	sc, err := w.seen(res)
	if err != nil {
		return rollout.Fail(fmt.Errorf("cannot look at %s on %s: %w", oneLine(w.Path), s.Host, err))
	}
	sc.notes["step"] = fmt.Sprintf("%d.%d", s.ID.Play+1, s.ID.Task+1)
	if n := s.Item(); n > 0 {
		sc.notes["step"] += fmt.Sprint(".", n+1)
	}
	var before *took
	if raw, begun := s.SoFar[tookNote]; begun {
		t, err := decodeNote[took](raw)
		if err != nil {
			return rollout.Fail(fmt.Errorf("cannot read what was at %s on %s: %w", oneLine(w.Path), s.Host, err))
		}
		before, sc.notes["stamp"], sc.modes = &t, t.Stamp, t.Modes
	}
	d, err := decide(w, sc)
	if err != nil {
		return refused(s.Host, d, err)
	}
	switch {
	case before != nil && !left(d):
		d.result = before.Result
		return d.outcome(true)
	case !d.changed:
		return d.outcome(false)
	case before == nil:
		if err := d.reviewed(s); err != nil {
			return rollout.Fail(err)
		}
		return rollout.Intend(tookNote, mustJSON(d.took()))
	}
	return m.act(ctx, s, d)
}

const lookTimeout = 5 * time.Minute

// left reports whether anything is left to do but to set times.
func left(d *decision) bool {
	for _, o := range d.ops {
		if o[0] != "keep" && o[0] != "stamp" && o[0] != "backup" {
			return true
		}
	}
	return false
}

// reviewed refuses a change that is another one than the plan says.
func (d *decision) reviewed(s rollout.Step) error {
	now := formerOf(d.at.File)
	if !s.Change.Action.Writes() && (d.Before == nil || *d.Before == now) {
		return &rollout.Problem{
			Message: fmt.Sprintf("cannot change %s on %s: the plan has nothing to change there, and this would: %q", oneLine(d.at.Path), s.Host, d.ops),
			Hint:    "a user or group of the node may have another number than its name says",
		}
	}
	if d.Before == nil || *d.Before == now {
		return nil
	}
	return &rollout.Problem{
		Message: fmt.Sprintf("cannot change %s on %s: it is not what the plan was made for: it was %s, and is %s", oneLine(d.at.Path), s.Host, d.Before, now),
		Hint:    "somebody changed it since: make the plan again",
	}
}

func (f former) String() string {
	switch f.State {
	case node.Absent:
		return "absent"
	case node.Symlink:
		return "a link to " + oneLine(f.Link)
	}
	out := fmt.Sprintf("a %s with mode %s, owner %d, group %d", f.State, shownMode(f.Mode), f.UID, f.GID)
	if f.SHA256 != "" {
		out += " and sha256:" + f.SHA256
	}
	return out
}

func (d *decision) took() took {
	made, _ := hex.DecodeString(d.notes["made"])
	modes := d.means
	if d.Recurse {
		modes = nil // there may be many
	}
	return took{Modes: modes, Path: d.at.Path, former: formerOf(d.at.File), Made: string(made), Stamp: d.notes["stamp"], Kept: d.keptName(), After: d.after(), Result: d.result}
}

// after is what the change leaves, as far as an undo has to know it again.
func (d *decision) after() former {
	out := former{State: d.at.State()}
	for _, o := range d.ops {
		switch o[0] {
		case "put":
			out = former{State: node.Regular, SHA256: o[1]}
		case "make_dirs":
			out.State = node.Directory
		case "create":
			out = former{State: node.Regular}
		case "link":
			out = former{State: node.Symlink, Link: o[1]}
		case "hard":
			out = former{State: node.Hard}
		case "drop", "drop_tree":
			out = former{State: node.Absent}
		}
	}
	return out
}

// act does what is left to do, and reads back what came of it.
func (m converger) act(ctx context.Context, s rollout.Step, d *decision) rollout.Outcome {
	var stdin []byte
	if d.content {
		stdin = s.Change.Content
		if int64(len(stdin)) != d.Content.Size {
			return rollout.Fail(fmt.Errorf("the plan does not hold what %s on %s is to hold", oneLine(d.at.Path), s.Host))
		}
	}
	script := d.look() + actFunctions + d.script() + "sees\n"
	res, err := run(ctx, m.hosts, s, sshexec.Command{Script: script, Stdin: bytes.NewReader(stdin), MaxOutput: mostLook})
	if err != nil {
		return rollout.Fail(err)
	}
	sc, err := d.seen(res)
	if err != nil {
		o := rollout.Fail(fmt.Errorf("cannot change %s on %s: %w", oneLine(d.at.Path), s.Host, err))
		o.Result = encode(map[string]any{"changed": false, "failed": true, "msg": o.Message})
		return o
	}
	if said, invalid := sc.notes["invalid"]; invalid {
		return notValid(s.Host, d, said)
	}
	sc.notes["stamp"], sc.modes = d.notes["stamp"], d.means
	after, err := decide(d.wish, sc)
	if err == nil && left(after) {
		err = fmt.Errorf("it was changed, and reads back as %s: still to do would be %q", formerOf(after.at.File), after.ops)
	}
	if err != nil {
		return rollout.Fail(fmt.Errorf("cannot bring %s on %s to what was asked for: %w", oneLine(d.at.Path), s.Host, err))
	}
	d.at.File = after.at.File
	return d.outcome(true)
}

// outcome is that of a path that is as it was asked for.
func (d *decision) outcome(changed bool) rollout.Outcome {
	is := oneLine(d.at.Path) + " is " + formerOf(d.at.File).String()
	o := rollout.AlreadyDone("%s", is)
	if changed {
		o = rollout.Did("%s", is)
	}
	d.result["changed"], d.result["failed"] = changed, false
	if !d.bare {
		info(d.result, d.at)
	}
	o.Result = encode(d.result)
	return o
}

// refused is the failure that Ansible's module reports, too.
func refused(host string, d *decision, err error) rollout.Outcome {
	var r *refusal
	o := rollout.Fail(fmt.Errorf("cannot change %s on %s: %w", oneLine(d.Path), host, err))
	result := map[string]any{"changed": false, "failed": true, "msg": err.Error()}
	if d.sent {
		result["checksum"] = d.Content.SHA1
	}
	if errors.As(err, &r) {
		for k, v := range r.also {
			result[k] = v
		}
		if p, ok := result["path"].(string); ok {
			if at := d.at; at.Path == p {
				state, has := result["state"]
				info(result, at)
				if has {
					result["state"] = state
				}
			}
		} else if p, ok := result["dest"].(string); ok && p == d.at.Path {
			info(result, d.at)
		}
	}
	o.Result = encode(result)
	return o
}

// notValid is the failure of a file that its validation refused.
func notValid(host string, d *decision, said string) rollout.Outcome {
	w := strings.SplitN(said+"  ", " ", 3)
	out, _ := hex.DecodeString(strings.TrimSpace(w[1]))
	complaints, _ := hex.DecodeString(strings.TrimSpace(w[2]))
	o := rollout.Outcome{Kind: rollout.Failed, Message: fmt.Sprintf("cannot change %s on %s: the new content is not valid: exit status %s: %s", oneLine(d.at.Path), host, w[0], lastLine(append(append(out, '\n'), complaints...)))}
	rc := json.Number(w[0])
	result := map[string]any{"changed": false, "failed": true, "msg": "failed to validate", "exit_status": rc, "stdout": printed(out), "stderr": printed(complaints)}
	result["stdout_lines"], result["stderr_lines"] = lines(printed(out)), lines(printed(complaints))
	if d.sent {
		result["checksum"] = d.Content.SHA1
	}
	o.Result = encode(result)
	return o
}
