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

// savedDir keeps files that this fleetd could not write again, by their digest,
// so that replacing or removing one of them can be undone.
const savedDir = "/var/lib/fleetd/bpf"

// mover changes files on one node for one step.
type mover struct {
	ctx   context.Context
	hosts Hosts
	step  rollout.Step
}

// move brings a file from one state to the other and reports whether there was
// anything to do. A file that is in neither state has been changed by somebody
// else since the plan was made, and is left alone.
func (r mover) move(m move) (bool, error) {
	now, err := r.look(m.Path)
	switch {
	case err != nil:
		return false, err
	case now == m.After:
		return false, nil
	case now.SHA256 != m.Before.SHA256 && now.SHA256 != m.After.SHA256:
		return false, &rollout.Problem{
			Message: fmt.Sprintf("cannot change %s on %s: it is not what the plan was made for: %s, not %s", m.Path, r.step.Host, orNone(now), orNone(m.Before)),
			Hint:    "somebody changed it since: make the plan again",
		}
	}
	o, err := Lookup(m.Name)
	if err != nil {
		return false, err
	}
	if now.SHA256 != "" && now.SHA256 != m.After.SHA256 && now.SHA256 != o.SHA256 {
		if err := r.script("save", m, now.SHA256); err != nil {
			return false, err
		}
	}
	switch m.After.SHA256 {
	case "":
		return true, r.script("remove", m, now.SHA256)
	case o.SHA256:
		return true, r.upload(m, o)
	}
	return true, r.script("restore", m, m.After.SHA256)
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
	_, err = r.hosts.Upload(r.ctx, r.step.Host, sshexec.Upload{
		Path: m.Path, Content: bytes.NewReader(o.Bytes), Size: int64(len(o.Bytes)), SHA256: o.SHA256,
		Mode: fs.FileMode(bits), Owner: "root", Group: "root", MkdirMode: 0o755, Become: r.step.Become,
	})
	return err
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
	return contents{}, fmt.Errorf("cannot read %s on %s: %s", file, r.step.Host, said(res))
}

// script runs one of the scripts below on a file with this digest.
func (r mover) script(name string, m move, digest string) error {
	res, err := r.hosts.Run(r.ctx, r.step.Host, sshexec.Command{
		Script: checkFunction + scripts[name],
		Env: map[string]string{
			"LC_ALL": "C", "file": m.Path, "dir": path.Dir(m.Path), "up": path.Dir(path.Dir(m.Path)),
			"digest": digest, "mode": m.After.Mode, "saved": path.Join(savedDir, digest+".o"), "keep": savedDir, "keep_up": path.Dir(savedDir),
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
			Message: fmt.Sprintf("cannot restore %s on %s: the version with digest sha256:%s is neither in this fleetd nor saved in %s", m.Path, r.step.Host, digest, savedDir),
			Hint:    "use the fleetd that the plan was made with, or make the plan again with this one",
		}
	}
	return fmt.Errorf("cannot %s %s on %s: %s", name, m.Path, r.step.Host, said(res))
}

func said(res sshexec.Result) string {
	text := strings.TrimSpace(string(res.Stderr))
	if text == "" {
		text = strings.TrimSpace(string(res.Stdout))
	}
	first, _, _ := strings.Cut(text, "\n")
	return strings.TrimSpace(fmt.Sprintf("exit status %d: %s", res.ExitStatus, first))
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
	// save keeps a copy, which appears under its name only when it is whole.
	"save": `
set -e
is "$file" || exit 40
mkdir -p -m 755 -- "$keep"
is "$saved" && exit 0
cp -p -- "$file" "$saved.new"
mv -f -- "$saved.new" "$saved"
`,
	// remove takes the file and the folders of ours that it leaves empty.
	"remove": `
is "$file" || exit 40
rm -f -- "$file" || exit 1
rmdir -- "$dir" 2>/dev/null && rmdir -- "$up" 2>/dev/null
exit 0
`,
	// restore puts a saved copy back and forgets it.
	"restore": `
set -e
if ! is "$file"; then
	is "$saved" || exit 41
	mkdir -p -m 755 -- "$dir"
	cp -p -- "$saved" "$dir/.fleetd-restore"
	mv -f -- "$dir/.fleetd-restore" "$file"
fi
chmod "$mode" -- "$file"
rm -f -- "$saved"
rmdir -- "$keep" 2>/dev/null && rmdir -- "$keep_up" 2>/dev/null
exit 0
`,
}
