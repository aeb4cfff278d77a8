package node

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/text"
)

// File is what is at a path on the node.
type File struct {
	// Exists, SHA256, Mode and Size are of what links lead to. SHA256 is in hex; ""
	// for what is not a regular file. Mode is the permission bits in octal, as stat
	// prints them: "644".
	Exists bool   `json:"exists"`
	SHA256 string `json:"sha256,omitempty"`
	Mode   string `json:"mode,omitempty"`
	Size   int64  `json:"size,omitempty"`
	// SHA1 is what Ansible's results call the checksum.
	SHA1 string `json:"sha1,omitempty"`
	// Self is the thing itself, nil where there is none; End is what it leads to
	// where it is a link, nil where that is nothing.
	Self *Inode `json:"self,omitempty"`
	End  *Inode `json:"end,omitempty"`
	// Link is what a link says, Real the path without any links, "" where a folder
	// on the way is missing.
	Link string `json:"link,omitempty"`
	Real string `json:"real,omitempty"`
	// Context is the SELinux context, "" where there is no SELinux.
	Context string `json:"context,omitempty"`
	// Unsure is set where a step before may have changed it, and nobody has looked
	// since.
	Unsure bool `json:"unsure,omitempty"`
}

// Inode is one thing in a file system.
type Inode struct {
	// Mode is st_mode: the type and the permission bits.
	Mode  uint32 `json:"mode"`
	UID   int    `json:"uid"`
	GID   int    `json:"gid"`
	Owner string `json:"owner"`
	Group string `json:"group"`
	Size  int64  `json:"size"`
	Links int    `json:"links"`
	// ID tells it from all others of the node: device and number.
	ID string `json:"id"`
}

// What is at a path, in Ansible's words.
const (
	Absent    = "absent"
	Regular   = "file"
	Hard      = "hard"
	Directory = "directory"
	Symlink   = "link"
)

const (
	typeMask  = 0o170000
	typeDir   = 0o040000
	typeReg   = 0o100000
	typeLink  = 0o120000
	modeMask  = 0o7777
	noUser    = "UNKNOWN"
	octal     = 8
	modeWidth = 16
)

// Perm are the permission bits.
func (i *Inode) Perm() uint32 { return i.Mode & modeMask }

// IsDir reports whether it is a directory, IsRegular whether it is a regular file.
func (i *Inode) IsDir() bool     { return i != nil && i.Mode&typeMask == typeDir }
func (i *Inode) IsRegular() bool { return i != nil && i.Mode&typeMask == typeReg }

// State is what the path itself is, in Ansible's words: what is neither link nor
// directory counts as a file, and as "hard" where it has several names.
func (f File) State() string {
	switch {
	case f.Self == nil:
		return Absent
	case f.Self.Mode&typeMask == typeLink:
		return Symlink
	case f.Self.IsDir():
		return Directory
	case f.Self.Links > 1:
		return Hard
	}
	return Regular
}

// Leads is what the path leads to: the thing itself where it is no link.
func (f File) Leads() *Inode {
	if f.State() == Symlink {
		return f.End
	}
	return f.Self
}

func parseFiles(s sections, f *Facts) {
	for _, x := range s {
		if path, found := strings.CutPrefix(x.name, "file "); found {
			if f.Files == nil {
				f.Files = map[string]File{}
			}
			f.Files[path] = parseFile(x.text)
		}
		if path, found := strings.CutPrefix(x.name, "text "); found && x.status == 0 {
			if raw, err := hex.DecodeString(strings.TrimSpace(x.text)); err == nil {
				if f.Texts == nil {
					f.Texts = map[string][]byte{}
				}
				f.Texts[path] = raw
			}
		}
	}
}

// parseFile reads what the function file prints: "644 1234 regular file",
// sha256sum's line, and lines that begin with a word of their own.
func parseFile(text string) File {
	var file File
	for i, l := range lines(text) {
		w := strings.Fields(l)
		if len(w) < 2 {
			continue
		}
		switch {
		case i == 0 && len(w) >= 3:
			if _, err := strconv.ParseUint(w[0], octal, modeWidth); err == nil {
				file.Exists, file.Mode, file.Size = true, w[0], size(w[1])
			}
		case w[0] == "self":
			file.Self = parseInode(l)
		case w[0] == "end":
			file.End = parseInode(l)
		case w[0] == "link":
			file.Link = unhex(w[1])
		case w[0] == "real":
			file.Real = unhex(w[1])
		case w[0] == "sha1" && len(w[1]) == 40:
			file.SHA1 = w[1]
		case w[0] == "context" && w[1] != "?":
			file.Context = w[1]
		case file.Exists && w[1] == "-" && len(w[0]) == 64:
			file.SHA256 = w[0]
		}
	}
	return file
}

// parseInode reads "self 81a4 0 0 6 1 65024.131:root:root": names may hold spaces,
// but no colon.
func parseInode(l string) *Inode {
	parts := strings.SplitN(l, ":", 3)
	w := strings.Fields(parts[0])
	if len(parts) != 3 || len(w) != 7 {
		return nil
	}
	mode, err := strconv.ParseUint(w[1], 16, 32)
	if err != nil {
		return nil
	}
	in := &Inode{Mode: uint32(mode), UID: number(w[2]), GID: number(w[3]), Size: size(w[4]), Links: number(w[5]), ID: w[6], Owner: parts[1], Group: parts[2]}
	if in.Owner == noUser {
		in.Owner = w[2]
	}
	if in.Group == noUser {
		in.Group = w[3]
	}
	return in
}

func unhex(s string) string {
	raw, err := hex.DecodeString(s)
	if err != nil {
		return ""
	}
	return string(raw)
}

// Seen is what a look at a node saw.
type Seen struct {
	// Places are what is at the paths that were asked for, in their order.
	Places []Place
	// Umask is that of the commands that are run on the node.
	Umask uint32
	// Notes are the other lines, by their first word: what else was asked for.
	Notes map[string]string
}

// Place is a path, without variables and ~, and what is at it.
type Place struct {
	Path string
	File
}

// LookScript is a script that looks at paths, which are words for the node's shell,
// in one call, and then does more, the lines of which ParseLook notes.
func LookScript(words []string, more string) string {
	var b strings.Builder
	b.WriteString("# look at " + oneLine(strings.Join(words, " ")) + "\nLC_ALL=C; export LC_ALL\n" + fileFunction)
	b.WriteString("look() { printf 'path %s\\n' \"$(printf %s \"$1\" | hex)\"; file \"$1\"; }\nsees() {\nprintf 'umask %s\\n' \"$(umask)\"\n")
	for _, w := range words {
		b.WriteString("look " + w + "\n")
	}
	b.WriteString(more + "\necho looked\n}\n")
	return b.String()
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// ParseLook reads what sees of a LookScript printed.
func ParseLook(res sshexec.Result) (Seen, error) {
	s := Seen{Notes: map[string]string{}}
	answer, whole := bytes.CutSuffix(bytes.TrimRight(res.Stdout, "\n"), []byte("looked"))
	if !whole || res.Truncated || !res.OK() {
		said := strings.TrimSpace(firstLine(text.Printable(string(res.Stderr))))
		if said == "" {
			said = "its answer breaks off"
		}
		return s, fmt.Errorf("exit status %d: %s", res.ExitStatus, said)
	}
	var body []string
	end := func() {
		if n := len(s.Places); n > 0 && body != nil {
			s.Places[n-1].File = parseFile(strings.Join(body, "\n"))
		}
		body = nil
	}
	for _, l := range strings.Split(string(answer), "\n") {
		word, rest, _ := strings.Cut(l, " ")
		switch word {
		case "path":
			end()
			s.Places = append(s.Places, Place{Path: unhex(rest)})
			body = []string{}
		case "umask":
			v, err := strconv.ParseUint(strings.TrimSpace(rest), octal, modeWidth)
			if err != nil {
				return s, errors.New("the node says nothing of its umask")
			}
			s.Umask = uint32(v)
		case "note":
			end()
			name, what, _ := strings.Cut(rest, " ")
			s.Notes[name] = what
		default:
			if body != nil {
				body = append(body, l)
			}
		}
	}
	end()
	return s, nil
}
