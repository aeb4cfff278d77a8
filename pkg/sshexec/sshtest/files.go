package sshtest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"github.com/pkg/sftp"
)

// Path is where a file of the server really is.
func (s *Server) Path(name string) string { return filepath.Join(s.Root(), path.Clean("/"+name)) }

// ReadFile reads a file that was uploaded to the absolute path name.
func (s *Server) ReadFile(name string) ([]byte, error) { return os.ReadFile(s.Path(name)) }

// WriteFile puts a file on the server, with the directories it needs.
func (s *Server) WriteFile(name string, content []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(s.Path(name)), 0o755); err != nil {
		return err
	}
	return os.WriteFile(s.Path(name), content, mode)
}

// Owner is the "owner:group" that the last upload to name asked for.
func (s *Server) Owner(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owners[path.Clean(name)]
}

// upload plays sshexec's upload script within Root: the same steps with the
// same status codes, so that a test may upload to /usr/local without root.
// Missing directories are made where the caller asked for that; a parent that
// exists on every node (/usr/local, /etc, /var/lib, /tmp) is always there.
func (s *Server) upload(r *Request) Response {
	target, temp := r.Env["fl_target"], r.Env["fl_temp"]
	dir := path.Dir(target)
	if st, err := os.Stat(s.Path(target)); err == nil && st.IsDir() {
		return Response{Exit: 90}
	}
	switch dir {
	case "/usr/local/bin", "/usr/local/lib", "/usr/local", "/etc", "/etc/sysctl.d", "/etc/yum.repos.d", "/var/lib", "/var/log", "/tmp", "/root", "/boot":
		_ = os.MkdirAll(s.Path(dir), 0o755)
	}
	if m := r.Env["fl_mkdir"]; m != "" {
		if err := os.MkdirAll(s.Path(dir), modeOf(m)); err != nil {
			return Response{Stderr: err.Error() + "\n", Exit: 91}
		}
	}
	if st, err := os.Stat(s.Path(dir)); err != nil || !st.IsDir() {
		return Response{Exit: 97}
	}
	defer os.Remove(s.Path(temp))
	say := func(words string) { fmt.Fprintf(r.Stderr, "fleetd-%s %s\n", r.Env["fl_nonce"], words) }
	say("sftp")
	s.serveSFTP(struct {
		io.Reader
		io.Writer
		io.Closer
	}{r.Stdin, r.Stdout, io.NopCloser(nil)})
	f, err := os.Open(s.Path(temp))
	if err != nil {
		return Response{Exit: 92}
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	f.Close()
	if err != nil {
		return Response{Stderr: err.Error() + "\n", Exit: 92}
	}
	digest := hex.EncodeToString(h.Sum(nil))
	say("digest " + digest)
	if digest != r.Env["fl_want"] {
		return Response{Exit: 93}
	}
	mode := fs.FileMode(0o644)
	if st, err := os.Stat(s.Path(target)); err == nil {
		mode = st.Mode().Perm()
	}
	if m := r.Env["fl_mode"]; m != "" {
		mode = modeOf(m)
	}
	if err := os.Chmod(s.Path(temp), mode); err != nil {
		return Response{Stderr: err.Error() + "\n", Exit: 95}
	}
	if err := os.Rename(s.Path(temp), s.Path(target)); err != nil {
		return Response{Stderr: err.Error() + "\n", Exit: 96}
	}
	if o := r.Env["fl_owner"]; o != "" {
		s.mu.Lock()
		s.owners[path.Clean(target)] = o
		s.mu.Unlock()
	}
	return Response{}
}

func modeOf(octal string) fs.FileMode {
	n, err := strconv.ParseUint(octal, 8, 32)
	if err != nil {
		return 0o755
	}
	return fs.FileMode(n) & fs.ModePerm
}

// serveSFTP serves Root as "/".
func (s *Server) serveSFTP(rwc io.ReadWriteCloser) {
	h := sandbox{s}
	srv := sftp.NewRequestServer(rwc, sftp.Handlers{FileGet: h, FilePut: h, FileCmd: h, FileList: h})
	_ = srv.Serve()
}

// sandbox maps the paths of SFTP requests into Root.
type sandbox struct{ s *Server }

func (b sandbox) Fileread(r *sftp.Request) (io.ReaderAt, error) {
	return os.Open(b.s.Path(r.Filepath))
}

func (b sandbox) Filewrite(r *sftp.Request) (io.WriterAt, error) {
	flags := os.O_WRONLY
	pf := r.Pflags()
	if pf.Creat {
		flags |= os.O_CREATE
	}
	if pf.Excl {
		flags |= os.O_EXCL
	}
	if pf.Trunc {
		flags |= os.O_TRUNC
	}
	return os.OpenFile(b.s.Path(r.Filepath), flags, 0o600)
}

func (b sandbox) Filecmd(r *sftp.Request) error {
	p := b.s.Path(r.Filepath)
	switch r.Method {
	case "Rename", "PosixRename":
		return os.Rename(p, b.s.Path(r.Target))
	case "Remove", "Rmdir":
		return os.Remove(p)
	case "Mkdir":
		return os.Mkdir(p, 0o755)
	case "Setstat":
		if r.AttrFlags().Permissions {
			return os.Chmod(p, r.Attributes().FileMode().Perm())
		}
		return nil
	}
	return sftp.ErrSSHFxOpUnsupported
}

func (b sandbox) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	p := b.s.Path(r.Filepath)
	switch r.Method {
	case "List":
		entries, err := os.ReadDir(p)
		if err != nil {
			return nil, err
		}
		var out listing
		for _, e := range entries {
			if st, err := e.Info(); err == nil {
				out = append(out, st)
			}
		}
		return out, nil
	case "Stat":
		st, err := os.Stat(p)
		return listing{st}, err
	case "Lstat":
		st, err := os.Lstat(p)
		return listing{st}, err
	}
	return nil, sftp.ErrSSHFxOpUnsupported
}

type listing []os.FileInfo

func (l listing) ListAt(out []os.FileInfo, offset int64) (int, error) {
	if offset >= int64(len(l)) {
		return 0, io.EOF
	}
	n := copy(out, l[offset:])
	if n < len(out) {
		return n, io.EOF
	}
	return n, nil
}
