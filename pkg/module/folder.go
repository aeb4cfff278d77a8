package module

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// localFolder is one of the bastion that ansible.builtin.copy puts on a node: each file in
// it is a change of its own, done, journaled and taken back by itself.
type localFolder rollout.LocalFile

func folderOf(args rollout.Args) (localFolder, bool) {
	f, ok := args["src"].(rollout.LocalFile)
	return localFolder(f), ok && f.Dir
}

// entry is what one of the files, or empty folders, is to be on the node.
type entry struct {
	wish
	content []byte
}

// told says what the entry is to be.
func (e entry) told() string {
	if e.State == node.Directory {
		return oneLine(e.Path) + " is to be a folder"
	}
	return oneLine(path.Join(e.Path, e.Name)) + " is to hold " + oneLine(e.Content.Origin)
}

// entries are those of a folder, files first, as Ansible does them
// (ansible/plugins/action/copy.py).
func (f localFolder) entries(args rollout.Args) ([]entry, error) {
	if _, given := args["content"]; given {
		return nil, &rollout.Problem{Message: "src and content are mutually exclusive"}
	}
	if text(args, "checksum") != "" {
		return nil, &rollout.Problem{Message: "checksum is for a file, and src is a folder"}
	}
	var files, empty []entry
	for _, below := range f.Tree {
		w, err := contentWish(args)
		if err != nil {
			return nil, err
		}
		at := f.at(args, below.Name)
		if below.Dir {
			w.State, w.Path, w.Mode, w.Follow = node.Directory, at, w.DirMode, true
			w.Validate, w.Backup, w.Force = nil, false, false
			empty = append(empty, entry{wish: w})
			continue
		}
		w = w.holding(below.Content, below)
		w.Path = path.Dir(at) + "/" // so that the folders above are made
		files = append(files, entry{w, below.Content})
	}
	return append(files, empty...), nil
}

// at is where something below the folder goes.
func (f localFolder) at(args rollout.Args, below string) string {
	dest := text(args, "dest")
	if !strings.HasSuffix(f.Name, "/") {
		dest = path.Join(dest, path.Base(f.Path))
	}
	return path.Join(dest, below)
}

func (f localFolder) reads(args rollout.Args) []rollout.Read {
	all, err := f.entries(args)
	if err != nil || len(all) == 0 {
		return readsOf(wish{}, nil, err)
	}
	var out []rollout.Read
	for _, e := range all {
		out = append(out, readsOf(e.wish, e.content, nil)...)
	}
	return out
}

// diff is the change of the folder: those of what is in it.
func (f localFolder) diff(host string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	all, err := f.entries(args)
	if err != nil {
		return diffOf("copy", host, before, wish{}, nil, err)
	}
	dest := text(args, "dest")
	out := rollout.Change{Action: rollout.ReadOnly, Back: "put back what was in " + oneLine(dest)}
	changes := 0
	for _, e := range all {
		var c rollout.Change
		if c, before, err = diffOf("copy", host, before, e.wish, e.content, nil); err != nil {
			return out, nil, err
		}
		out.Items = append(out.Items, c)
		if c.Action.Writes() {
			out.Action = rollout.Update
			changes++
			out.Fields, out.Reasons, out.Risks = append(out.Fields, c.Fields...), appendNew(out.Reasons, c.Reasons), appendNew(out.Risks, c.Risks)
			if len(c.Fields) == 0 { // nobody has looked yet
				out.Reasons = append(out.Reasons, e.told())
			}
		}
	}
	out.Summary = fmt.Sprintf("copy: %s holds %s, %d of %d files", oneLine(dest), oneLine(f.Path), changes, len(all))
	if changes == 0 {
		out.Back = ""
		out.Summary = fmt.Sprintf("copy: the %d files of %s in %s are as they should be", len(all), oneLine(f.Path), oneLine(dest))
	}
	slash := ""
	if strings.HasSuffix(f.Name, "/") {
		slash = "/"
	}
	out.Data, err = json.Marshal(map[string]string{"dest": strings.TrimRight(dest, "/") + "/", "src": f.Path + slash})
	if err != nil {
		return out, nil, fmt.Errorf("cannot encode the change: %w", err)
	}
	return out, before, nil
}

func appendNew(to, more []string) []string {
	for _, m := range more {
		if !slices.Contains(to, m) {
			to = append(to, m)
		}
	}
	return to
}
