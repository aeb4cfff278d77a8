package playbook

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// find reads the file of that name: as in Ansible first in the folder (files,
// templates) beside the task, then beside the task, and then beside the playbook.
func (c *compiler) find(t *taskRun, spec rollout.Param, name string) (rollout.LocalFile, error) {
	var at []string
	if strings.HasPrefix(name, "/") {
		at = []string{c.load.clean(name)}
	} else {
		for _, dir := range []string{path.Dir(t.src.path), path.Dir(c.load.top)} {
			if first, _, _ := strings.Cut(name, "/"); first != spec.Folder {
				at = append(at, path.Join(dir, spec.Folder, name))
			}
			at = append(at, path.Join(dir, name))
		}
	}
	for _, file := range at {
		if !fs.ValidPath(file) {
			continue
		}
		info, err := fs.Stat(c.load.fsys, file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && info.IsDir() {
			return c.folder(t, spec, name, file)
		}
		return c.localFile(name, file, info, err)
	}
	var looked []string
	for _, file := range at {
		if shown := c.load.opts.shown(file); !slices.Contains(looked, shown) {
			looked = append(looked, shown)
		}
	}
	return rollout.LocalFile{}, fmt.Errorf("there is no file %q: looked for %s", name, strings.Join(looked, ", "))
}

// localFile reads one file. All hosts share it: a large fleet may get a large file.
func (c *compiler) localFile(name, file string, info fs.FileInfo, err error) (rollout.LocalFile, error) {
	if err == nil && info.Size() > rollout.MostContent {
		return rollout.LocalFile{}, fmt.Errorf("%s has %d bytes, and %d MiB are the most that a plan holds of a file: put it on the node another way, such as get_url in a command", c.load.opts.shown(file), info.Size(), rollout.MostContent>>20)
	}
	var data []byte
	if err == nil {
		data, err = c.load.contents(file)
	}
	if err != nil {
		return rollout.LocalFile{}, fmt.Errorf("cannot read %s: %w", c.load.opts.shown(file), err)
	}
	if strings.HasPrefix(string(data), "$ANSIBLE_VAULT;") {
		return rollout.LocalFile{}, fmt.Errorf("%s is encrypted with ansible-vault, and what a plan holds is no secret", c.load.opts.shown(file))
	}
	if data == nil {
		data = []byte{} // nothing is a content, too
	}
	return rollout.LocalFile{Name: name, Path: path.Join(c.load.opts.Dir, file), Mode: permissions(info.Mode()), Content: data}, nil
}

// mostInFolder bounds the files of a folder that a plan holds: each is a step's effect
// of its own.
const mostInFolder = 1000

// folder reads what is in a folder.
func (c *compiler) folder(t *taskRun, spec rollout.Param, name, file string) (rollout.LocalFile, error) {
	out := rollout.LocalFile{Name: name, Path: path.Join(c.load.opts.Dir, file), Dir: true}
	shown := c.load.opts.shown(file)
	if !spec.Tree {
		return out, fmt.Errorf("%s is a folder, and a file is wanted", shown)
	}
	if t.loop != nil {
		return out, fmt.Errorf("%s is a folder, which a loop cannot copy: give each folder a task of its own", shown)
	}
	size := 0
	err := fs.WalkDir(c.load.fsys, file, func(p string, e fs.DirEntry, err error) error {
		if err != nil || p == file {
			return err
		}
		below := strings.TrimPrefix(p, file+"/")
		info, err := fs.Stat(c.load.fsys, p) // what a link leads to
		switch {
		case err == nil && info.IsDir() && !e.IsDir():
			return fmt.Errorf("%s is a link to a folder, which is not followed: copy that folder by its own name", c.load.opts.shown(p))
		case err == nil && info.IsDir():
			inside, err := fs.ReadDir(c.load.fsys, p)
			if err == nil && len(inside) == 0 {
				out.Tree = append(out.Tree, rollout.LocalFile{Name: below, Dir: true})
			}
			return err
		case err == nil && !info.Mode().IsRegular():
			return fmt.Errorf("%s is no file and no folder", c.load.opts.shown(p))
		}
		one, err := c.localFile(below, p, info, err)
		if size += len(one.Content); err == nil && size > 4*rollout.MostContent {
			err = fmt.Errorf("there is more than %d MiB in it, the most that a plan holds of a folder", 4*rollout.MostContent>>20)
		}
		if out.Tree = append(out.Tree, one); err == nil && len(out.Tree) > mostInFolder {
			err = fmt.Errorf("there are more than %d files in it", mostInFolder)
		}
		return err
	})
	if err != nil {
		return out, fmt.Errorf("cannot take the folder %s: %w", shown, err)
	}
	return out, nil
}

func permissions(m fs.FileMode) string {
	bits := uint64(m.Perm())
	for bit, flag := range map[uint64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if m&flag != 0 {
			bits |= bit
		}
	}
	return "0" + strconv.FormatUint(bits, 8)
}
