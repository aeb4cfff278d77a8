package module

import (
	"path"

	"github.com/fleetd/fleetd/pkg/node"
)

// file decides for ansible.builtin.file, as its module does
// (ansible/modules/file.py).
func (d *decision) file() error {
	if d.State != node.Symlink && d.State != node.Absent && d.Name != "" && d.at.Leads().IsDir() {
		d.at = d.places["inner"]
	}
	was := d.at.State()
	if d.State == "" {
		switch {
		case was != node.Absent:
			d.State = was
		case d.Recurse:
			d.State = node.Directory
		default:
			d.State = node.Regular
		}
	}
	if d.Recurse && d.State != node.Directory {
		return refuse(map[string]any{"path": d.at.Path}, "recurse option requires state to be 'directory'")
	}
	if d.Src != "" && d.State != node.Symlink && d.State != node.Hard {
		return refuse(map[string]any{"path": d.at.Path}, "src option requires state to be 'link' or 'hard'")
	}
	switch d.State {
	case node.Regular:
		return d.regular()
	case node.Directory:
		return d.directory()
	case node.Symlink:
		return d.symlink()
	case node.Hard:
		return d.hardlink()
	case "touch":
		return d.touch()
	}
	return d.absent()
}

// followed is the place that a link leads to.
func followed(p node.Place) node.Place {
	if p.State() != node.Symlink {
		return p
	}
	out := p
	out.Path, out.Self, out.End, out.Link = p.Real, p.End, nil, ""
	return out
}

func (d *decision) regular() error {
	if d.Follow {
		d.at = followed(d.at)
	}
	d.result["path"] = d.at.Path
	if was := d.at.State(); was != node.Regular && was != node.Hard {
		return refuse(map[string]any{"path": d.at.Path, "state": was}, "file (%s) is %s, cannot continue", d.at.Path, was)
	}
	if err := d.attributes(d.at.Path, d.at.Self, 0, false); err != nil {
		return err
	}
	return d.times()
}

func (d *decision) directory() error {
	if d.Follow {
		d.at = followed(d.at)
	}
	d.result["path"] = d.at.Path
	switch was := d.at.State(); was {
	case node.Absent:
		return d.makeDirs(d.at.Path, d.Mode)
	case node.Directory:
	default:
		return refuse(map[string]any{"path": d.at.Path}, "%s already exists as a %s", d.at.Path, was)
	}
	if err := d.attributes(d.at.Path, d.at.Self, 0, true); err != nil {
		return err
	}
	if d.Recurse {
		return d.below()
	}
	return d.times()
}

// makeDirs makes a directory and those above it that are missing.
func (d *decision) makeDirs(p, mode string) error {
	fresh := 0o777 &^ d.umask
	octals := ""
	if mode != "" {
		m, err := modeOf(mode, fresh, true, d.umask)
		if err != nil {
			return refuse(map[string]any{"path": p, "details": err.Error()}, "mode must be in octal or symbolic form")
		}
		octals = shownMode(m)
	}
	if d.Owner != "" && !d.same(d.Owner, "uid", -1, "") {
		if err := d.known("uid", "user", "chown", d.Owner, p); err != nil {
			return err
		}
	}
	if d.Group != "" && !d.same(d.Group, "gid", -1, "") {
		if err := d.known("gid", "group", "chgrp", d.Group, p); err != nil {
			return err
		}
	}
	d.do("make_dirs", octals, d.Owner, d.Group, p)
	d.field(p, node.Absent, node.Directory)
	for _, f := range [][2]string{{" mode", octals}, {" owner", d.Owner}, {" group", d.Group}} {
		if f[1] != "" {
			d.field(p+f[0], "", f[1])
		}
	}
	return nil
}

func (d *decision) symlink() error {
	was := d.at.State()
	src, end := d.Src, d.places["src"]
	if src == "" && d.Follow && d.at.Leads() != nil && was == node.Symlink {
		src = d.at.Link // what there is stays
	} else if src != "" {
		src = end.Path
	}
	name := "end"
	if was == node.Directory {
		name = "end of directory"
	}
	if e, ok := d.places[name]; ok {
		end = e
	}
	d.key, d.result["dest"], d.result["src"] = "dest", d.at.Path, src
	if src == "" {
		d.result["src"] = nil
	}
	told := map[string]any{"path": d.at.Path}
	if !d.Force && d.Src != "" && end.Leads() == nil {
		return refuse(map[string]any{"path": d.at.Path, "src": src}, "src file does not exist, use \"force=yes\" if you really want to create the link: %s", end.Path)
	}
	switch was {
	case node.Directory:
		if !d.Force {
			return refuse(told, "refusing to convert from %s to symlink for %s", was, d.at.Path)
		}
		if !d.planned && d.notes["empty"] == "" {
			return refuse(told, "the directory %s is not empty, refusing to convert it", d.at.Path)
		}
	case node.Regular, node.Hard:
		if !d.Force {
			return refuse(told, "refusing to convert from %s to symlink for %s", was, d.at.Path)
		}
	}
	if was != node.Symlink {
		if src == "" {
			return refuse(nil, "src is required for creating new symlinks")
		}
	}
	if was != node.Symlink || src != "" && d.at.Link != src {
		d.keep()
		d.do("link", src, d.at.Path)
		before := was
		if was == node.Symlink {
			before = "link to " + d.at.Link
		}
		d.field(d.at.Path, before, "link to "+src)
	}
	if d.Follow {
		if d.Src == "" {
			end = followed(d.at)
		}
		if in := end.Leads(); in != nil {
			p := end.Path
			if end.State() == node.Symlink || end.Real != "" {
				p = end.Real
			}
			return d.attributes(p, in, 0, in.IsDir())
		}
		return nil
	}
	// The mode of a link is no mode.
	own := *d
	own.Mode = ""
	own.ops, own.fields, own.changed = nil, nil, false
	err := own.attributes(d.at.Path, d.at.Self, 0, false)
	d.ops, d.fields, d.changed = append(d.ops, own.ops...), append(d.fields, own.fields...), d.changed || own.changed
	return err
}

func (d *decision) hardlink() error {
	was := d.at.State()
	src := d.places["src"]
	d.key, d.result["dest"] = "dest", d.at.Path
	told := map[string]any{"dest": d.at.Path, "src": src.Path}
	if d.Src == "" {
		d.result["src"] = nil
		if was != node.Hard {
			return refuse(nil, "src is required for creating new hardlinks")
		}
		return d.attributes(d.at.Path, d.at.Self, 0, false)
	}
	d.result["src"] = src.Path
	in := src.Leads()
	if in == nil {
		return refuse(told, "src does not exist")
	}
	is := d.at.Leads() != nil && d.at.Leads().ID == in.ID
	switch {
	case was == node.Hard && is, was == node.Symlink && d.at.Link == src.Path:
	case was == node.Hard && !d.Force:
		return refuse(told, "Cannot link, different hard link exists at destination")
	case was == node.Regular && !d.Force:
		return refuse(told, "Cannot link, %s exists at destination", was)
	case was == node.Directory:
		return refuse(told, "Cannot link: different hard link exists at destination")
	default:
		d.keep()
		d.do("hard", src.Path, d.at.Path)
		d.field(d.at.Path, was, "hard link to "+src.Path)
		return d.attributes(d.at.Path, in, 0, false)
	}
	return d.attributes(d.at.Path, d.at.Self, 0, false)
}

func (d *decision) touch() error {
	d.key, d.result["dest"] = "dest", d.at.Path
	if d.at.State() == node.Absent {
		if d.places["path"].Real == "" && d.at.Real == "" {
			return refuse(map[string]any{"path": d.at.Path}, "Error, could not touch target: [Errno 2] No such file or directory: b'%s'", d.at.Path)
		}
		d.do("create", d.at.Path)
		d.field(d.at.Path, node.Absent, node.Regular)
		return d.attributes(d.at.Path, nil, 0o666&^d.umask, false)
	}
	at := d.at
	if d.Follow {
		at = followed(d.at)
	}
	if err := d.attributes(at.Path, at.Leads(), 0, at.Leads().IsDir()); err != nil {
		return err
	}
	return d.times()
}

// times sets the times that are asked for as "now".
func (d *decision) times() error {
	usual := "preserve"
	if d.State == "touch" {
		usual = "now"
	}
	flags := ""
	for _, t := range [][2]string{{"a", or(d.ATime, usual)}, {"m", or(d.MTime, usual)}} {
		if t[1] == "now" {
			flags += t[0]
		}
	}
	switch flags {
	case "":
		return nil
	case "a", "m":
		d.do("stamp", "-c", "-"+flags, "--", d.at.Path)
	default:
		d.do("stamp", "-c", "--", d.at.Path)
	}
	d.field(d.at.Path+" times", "", "now")
	d.lost = append(d.lost, "the times of "+d.at.Path)
	return nil
}

func (d *decision) absent() error {
	d.result["path"], d.result["state"] = d.at.Path, node.Absent
	switch was := d.at.State(); was {
	case node.Absent:
		return nil
	case node.Directory:
		d.do("drop_tree", d.at.Path)
		d.field(d.at.Path, was, node.Absent)
		d.lost = append(d.lost, "what is in "+d.at.Path)
	default:
		d.keep()
		d.do("drop", d.at.Path)
		d.field(d.at.Path, was, node.Absent)
	}
	return nil
}

// keptName is what a copy of the file is called in keptDir: each step, and each item of a loop,
// has its own.
func (d *decision) keptName() string { return d.at.SHA256 + "." + d.notes["step"] }

// keep puts a copy of the file that is about to go where an undo finds it.
func (d *decision) keep() {
	if in := d.at.Self; in.IsRegular() && d.at.SHA256 != "" {
		d.ops = append(d.ops, op{"keep", d.at.SHA256, d.keptName(), d.at.Path})
	} else if d.at.Self != nil && d.at.State() == node.Regular {
		d.lost = append(d.lost, path.Base(d.at.Path)+", which is no regular file")
	}
}
