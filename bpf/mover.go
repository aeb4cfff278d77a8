package bpf

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// keptDir keeps files that this fleetd could not write again, so that replacing
// or removing one of them can be undone. It is not the objects' folder: there a
// loader that takes all that lies in it would take the old one too.
const keptDir = "/var/lib/fleetd/bpf"

// kept is where the contents of a file are kept. A step that is repeated after a
// crash, and an undo from another bastion, find them under the same name.
func kept(file, digest string) string {
	return path.Join(keptDir, strings.TrimSuffix(path.Base(file), ".o")+"-"+digest+".o")
}

// mover changes files on one node for one step.
type mover struct {
	ctx   context.Context
	hosts Hosts
	step  rollout.Step
}

// How far a move is, as noted under the file's path. That it is meant is noted
// before anything is touched: after a crash the file may be found as it should
// be, and it was this step that changed it.
const (
	meant  = "meant"
	saved  = "kept the old one"
	placed = "done"
)

// move does the next thing on the way of a file from the contents that it has
// now. A file that is in neither of its two states has been changed by somebody
// else since the plan was made, and is left alone.
func (r mover) move(m move, now contents) rollout.Outcome {
	if now.SHA256 != m.Before.SHA256 && now.SHA256 != m.After.SHA256 {
		return rollout.Fail(&rollout.Problem{
			Message: fmt.Sprintf("cannot change %s on %s: it is not what the plan was made for: %s, not %s", m.Path, r.step.Host, orNone(now), orNone(m.Before)),
			Hint:    "somebody changed it since: make the plan again",
		})
	}
	o, err := Lookup(m.Name)
	if err != nil {
		return rollout.Fail(err)
	}
	stage := r.step.SoFar[m.Path]
	switch {
	case stage == "":
		return rollout.Intend(m.Path, meant)
	case stage == placed:
		return rollout.Fail(fmt.Errorf("cannot change %s on %s: it was written, and reads back as %s, not %s", m.Path, r.step.Host, inFull(now), inFull(m.After)))
	case stage == meant && now.SHA256 != "" && now.SHA256 != m.After.SHA256 && now.SHA256 != o.SHA256:
		if err := r.script("keep", m, now.SHA256); err != nil {
			return rollout.Fail(err)
		}
		return rollout.WaitFor(0, "%s is kept as %s", m.Path, kept(m.Path, now.SHA256)).Note(m.Path, saved)
	}
	switch m.After.SHA256 {
	case "":
		err = r.script("remove", m, now.SHA256)
	case o.SHA256:
		err = r.upload(m, o)
	default:
		err = r.script("restore", m, m.After.SHA256)
	}
	if err != nil {
		return rollout.Fail(err)
	}
	return rollout.WaitFor(0, "").Note(m.Path, placed)
}

func inFull(c contents) string {
	if c.SHA256 == "" {
		return "no file"
	}
	return fmt.Sprintf("%s with mode %s", sum256(c), c.Mode)
}

func orNone(c contents) string {
	if c.SHA256 == "" {
		return "no file"
	}
	return sum256(c)
}

func (r mover) upload(m move, o Object) error {
	bits, err := strconv.ParseUint(m.After.Mode, 8, 12)
	if err != nil {
		return fmt.Errorf("cannot write %s on %s: mode %q: %w", m.Path, r.step.Host, m.After.Mode, err)
	}
	return r.hosts.Upload(r.ctx, r.step.Host, sshexec.Upload{
		Path: m.Path, Content: bytes.NewReader(o.Bytes), Size: int64(len(o.Bytes)), SHA256: o.SHA256,
		Mode: fs.FileMode(bits), Owner: "root", Group: "root", MkdirMode: 0o755, Become: r.step.Become,
	})
}

// look reads a file's digest and mode.
func (r mover) look(file string) (contents, error) {
	res, err := r.hosts.Run(r.ctx, r.step.Host, sshexec.Command{
		Script: lookScript, Env: map[string]string{"LC_ALL": "C", "file": file}, Become: r.step.Become, Timeout: time.Minute,
	})
	if err != nil {
		return contents{}, err
	}
	words := strings.Fields(string(res.Stdout))
	switch {
	case res.ExitStatus == 0 && len(words) == 1 && words[0] == "missing":
		return contents{}, nil
	case res.ExitStatus == 0 && len(words) == 2 && len(words[1]) == 64:
		return contents{Mode: words[0], SHA256: words[1]}, nil
	}
	return contents{}, fmt.Errorf("cannot read %s on %s: %s", file, r.step.Host, res.Said())
}

// script runs one of the scripts below on a file with this digest.
func (r mover) script(name string, m move, digest string) error {
	res, err := r.hosts.Run(r.ctx, r.step.Host, sshexec.Command{
		Script: checkFunction + scripts[name],
		Env: map[string]string{
			"LC_ALL": "C", "file": m.Path, "dir": path.Dir(m.Path), "up": path.Dir(path.Dir(m.Path)),
			"digest": digest, "mode": m.After.Mode, "kept": kept(m.Path, digest), "keep": keptDir, "keep_up": path.Dir(keptDir),
		},
		Become: r.step.Become, Timeout: time.Minute,
	})
	if err != nil {
		return err
	}
	switch res.ExitStatus {
	case 0:
		return nil
	case 40:
		return &rollout.Problem{
			Message: fmt.Sprintf("cannot %s %s on %s: it changed meanwhile", name, m.Path, r.step.Host),
			Hint:    "make the plan again",
		}
	case 41:
		return &rollout.Problem{
			Message: fmt.Sprintf("cannot restore %s on %s: the version with digest sha256:%s is neither in this fleetd nor kept on the node as %s", m.Path, r.step.Host, digest, kept(m.Path, digest)),
			Hint:    "use the fleetd that the plan was made with, or make the plan again with this one",
		}
	}
	return fmt.Errorf("cannot %s %s on %s: %s", name, m.Path, r.step.Host, res.Said())
}

// The scripts are POSIX shell; all they work on is in the environment.
const lookScript = `
[ -e "$file" ] || { echo missing; exit 0; }
[ -f "$file" ] || { echo "not a file" >&2; exit 1; }
stat -L -c %a -- "$file" && sha256sum <"$file" | cut -d ' ' -f 1
`

const checkFunction = `
is() { # is FILE: it is a file of this digest
	[ -f "$1" ] || return 1
	have=$(sha256sum <"$1") || return 1
	[ "${have%% *}" = "$digest" ]
}
`

var scripts = map[string]string{
	// keep makes a copy, which appears under its name only when it is whole and,
	// by dd's fsync, on the disk: a power cut must not leave neither it nor the
	// original.
	"keep": `
set -e
is "$file" || exit 40
mkdir -p -m 755 -- "$keep"
cp -p -- "$file" "$kept.new"
dd if=/dev/null of="$kept.new" conv=notrunc,fsync 2>/dev/null
mv -f -- "$kept.new" "$kept"
`,
	// remove takes the file and the folders of ours that it leaves empty.
	"remove": `
is "$file" || exit 40
rm -f -- "$file" || exit 1
rmdir -- "$dir" 2>/dev/null && rmdir -- "$up" 2>/dev/null
exit 0
`,
	// restore puts the copy back, and forgets it only then.
	"restore": `
set -e
if ! is "$file"; then
	is "$kept" || exit 41
	mkdir -p -m 755 -- "$dir"
	cp -p -- "$kept" "$dir/.fleetd-restore"
	dd if=/dev/null of="$dir/.fleetd-restore" conv=notrunc,fsync 2>/dev/null
	mv -f -- "$dir/.fleetd-restore" "$file"
fi
chmod "$mode" -- "$file"
is "$file" || exit 1
rm -f -- "$kept"
rmdir -- "$keep" 2>/dev/null && rmdir -- "$keep_up" 2>/dev/null
exit 0
`,
}
