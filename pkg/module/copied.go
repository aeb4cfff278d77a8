package module

import (
	"fmt"
	"path"
	"strings"

	"github.com/fleetd/fleetd/pkg/node"
)

// copied decides for ansible.builtin.copy and template, as the action and the
// module do together (ansible/plugins/action/copy.py, ansible/modules/copy.py).
func (d *decision) copied() error {
	d.key = "dest"
	if d.Src != "" {
		if err := d.takeFromNode(); err != nil {
			return err
		}
	}
	slash := strings.HasSuffix(d.at.Path, "/")
	isDir := d.at.Leads().IsDir()
	if isDir && d.Name == "" {
		return refuse(nil, "can not use content with a dir as dest")
	}
	folder := d.places["folder"]
	written := d.at.Path
	if slash || isDir {
		folder, d.at = d.at, d.places["inner"]
		d.at.Path = path.Join(folder.Path, d.Name)
	}
	link := d.at.State() == node.Symlink
	if d.at.Leads() != nil && !d.Force {
		d.result["dest"], d.bare = written, d.Src == ""
		if d.Src != "" {
			d.result["dest"], d.result["src"], d.result["msg"] = d.at.Path, d.places["src"].Path, "file already exists"
		} else if d.Content.Origin != "" {
			d.result["src"] = d.Content.Origin
		}
		return nil
	}
	if d.Follow && link && d.at.Leads() != nil {
		d.at, link = followed(d.at), false
	}
	d.result["checksum"], d.sent = d.Content.SHA1, d.Src == ""
	if !link && d.at.Leads() != nil && d.at.SHA256 == d.Content.SHA256 {
		return d.settled()
	}
	d.result["dest"], d.result["md5sum"] = d.at.Path, d.Content.MD5
	if d.Src != "" {
		d.result["src"] = d.places["src"].Path
	}
	if folder.Leads() == nil {
		if !slash {
			return refuse(nil, "Destination directory %s does not exist", path.Dir(d.at.Path))
		}
		if err := d.makeDirs(strings.TrimRight(folder.Path, "/"), d.DirMode); err != nil {
			return err
		}
	}
	return d.write()
}

// takeFromNode makes the content that of a file on the node.
func (d *decision) takeFromNode() error {
	src := d.places["src"]
	in := src.Leads()
	switch {
	case in == nil:
		return refuse(nil, "Source %s not found", src.Path)
	case in.IsDir():
		return refuse(nil, "cannot copy %s: fleetd copies files, and this is a directory", src.Path)
	case !in.IsRegular():
		return refuse(nil, "Cannot copy invalid source '%s': not a file", src.Path)
	case src.SHA256 == "":
		return refuse(nil, "Source %s not readable", src.Path)
	}
	d.Content = &digests{SHA256: src.SHA256, SHA1: src.SHA1, MD5: d.notes["md5"], Size: in.Size}
	if d.Mode == "preserve" {
		d.Mode = shownMode(in.Perm())
	}
	return nil
}

// settled is a file that holds what it is to hold.
func (d *decision) settled() error {
	if d.Src != "" {
		d.result["dest"], d.result["src"], d.result["md5sum"] = d.at.Path, d.places["src"].Path, d.Content.MD5
	} else {
		d.at = followed(d.at) // the file module follows
		d.result["path"], d.result["dest"] = d.at.Path, d.at.Path
	}
	return d.attributes(d.at.Path, d.at.Leads(), 0, false)
}

// write puts the content in its place, with the owner and mode of the file that is
// there, or those that are asked for.
func (d *decision) write() error {
	was := d.at.Self
	if d.at.State() == node.Symlink {
		was = nil // a link gives way to a file
	}
	in := was
	if in == nil {
		in = &node.Inode{Mode: 0o666 &^ d.umask, UID: -1, GID: -1}
	}
	owner, group := "", ""
	if was != nil {
		owner, group = fmt.Sprint(was.UID), fmt.Sprint(was.GID)
		in = handedOver(*was)
	}
	mode := in.Perm()
	attrs := *d
	attrs.ops, attrs.changed, attrs.fields = nil, false, nil
	if err := attrs.attributes(d.at.Path, in, 0, false); err != nil {
		return err
	}
	for _, o := range attrs.ops {
		switch o[0] {
		case "own":
			owner = o[1]
		case "group":
			group = o[1]
		case "mode":
			m, _ := octal(o[1]) // made of a number
			mode = m
		}
	}
	if d.Backup && d.at.Leads() != nil {
		copied := d.at.Path + "." + d.notes["stamp"]
		d.ops = append(d.ops, op{"backup", d.at.Path, copied})
		d.result["backup_file"] = copied
	}
	d.keep()
	from := ""
	if d.Src != "" {
		from = d.places["src"].Path
	} else {
		d.content = true
	}
	d.do("put", d.Content.SHA256, fmt.Sprintf("%04o", mode), owner, group, from, d.at.Path)
	before := ""
	switch {
	case d.at.State() == node.Symlink:
		before = "link to " + d.at.Link
	case d.at.SHA256 != "":
		before = shownDigest(d.at.SHA256)
	}
	d.field(d.at.Path, before, shownDigest(d.Content.SHA256))
	d.fields = append(d.fields, attrs.fields...)
	return nil
}

// handedOver is a file as it is with the owner that it has: the kernel takes away
// what lets others run it as that one.
func handedOver(in node.Inode) *node.Inode {
	in.Mode &^= 0o4000
	if in.Mode&0o010 != 0 {
		in.Mode &^= 0o2000
	}
	return &in
}

// shownDigest is as much of a digest as a person compares; the whole is in the
// change's data.
func shownDigest(sum string) string { return "sha256:" + sum[:12] }
