package sshexec

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/pkg/sftp"

	"github.com/fleetd/fleetd/pkg/sshexec/internal/wire"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/words"
)

// An Upload is a file to put on a node.
type Upload struct {
	// Path is the absolute path on the node. If it is a symbolic link, the
	// link is replaced, not what it points to.
	Path string
	// Content is read from its current position, Size bytes.
	Content io.ReadSeeker
	Size    int64
	// Mode is the permission bits. 0 keeps those of a file that is there, and
	// gives a new one 0644.
	Mode fs.FileMode
	// Owner and Group are names or numbers. Empty keeps those of a file that
	// is there; a new one belongs to who writes it.
	Owner, Group string
	// SHA256 is the digest of Content, in hexadecimal: what arrives with another one
	// does not get its name.
	SHA256 string
	// Become writes as Target.Become says.
	Become bool
	// MkdirMode, if not 0, creates missing directories with this mode.
	MkdirMode fs.FileMode
}

// Upload writes a file atomically: see the package comment. When it fails, the
// target is as it was.
func (p *Pool) Upload(ctx context.Context, t Target, u Upload) error {
	return wrap(t, "write "+text.Printable(u.Path), p.upload(ctx, t, u))
}

func (u Upload) validate() error {
	switch {
	case !path.IsAbs(u.Path) || path.Clean(u.Path) != u.Path || u.Path == "/":
		return fmt.Errorf("%q is not a clean absolute path of a file", u.Path)
	case u.Content == nil:
		return errors.New("no content")
	case u.Size < 0:
		return errors.New("negative size")
	case len(u.SHA256) != 2*sha256.Size:
		return fmt.Errorf("%q is no SHA-256", u.SHA256)
	case u.Mode&^fs.FileMode(0o7777) != 0 && u.Mode&^(fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0:
		return fmt.Errorf("mode %v is not a file's", u.Mode)
	}
	return nil
}

func (p *Pool) upload(ctx context.Context, t Target, u Upload) error {
	if err := u.validate(); err != nil {
		return &Error{Kind: KindUsage, Err: err}
	}
	start, err := u.Content.Seek(0, io.SeekCurrent)
	if err != nil {
		return &Error{Kind: KindFile, Err: fmt.Errorf("cannot read the content: %w", err)}
	}
	nonce := newNonce()
	temp := tempName(u.Path, nonce)
	env := map[string]string{
		"fl_target": u.Path, "fl_dir": path.Dir(u.Path), "fl_temp": temp,
		"fl_want": strings.ToLower(u.SHA256), "fl_owner": ownerSpec(u.Owner, u.Group),
		"fl_mode": octal(u.Mode), "fl_mkdir": octal(u.MkdirMode),
		"fl_plain": p.opts.noSFTP, "fl_nonce": nonce, "fl_large": "",
	}
	if u.Size > 8<<20 {
		env["fl_large"] = "yes"
	}
	program, err := wire.Program{Env: env, Script: wire.UploadScript}.Encode()
	if err == nil && u.Become {
		err = t.Become.validate()
	}
	if err != nil {
		return &Error{Kind: KindUsage, Err: err}
	}
	return p.onConn(ctx, t, func(c *conn) error {
		// A second try over a fresh connection starts anew.
		if _, err := u.Content.Seek(start, io.SeekStart); err != nil {
			return &Error{Kind: KindFile, Err: fmt.Errorf("cannot read the content: %w", err)}
		}
		talk := newUploadTalk(nonce)
		s, err := c.begin(ctx, launch{target: t, become: u.Become, program: program, input: true, stderr: talk})
		if err == nil {
			err = s.transfer(ctx, u, temp, talk)
		}
		if s != nil {
			s.close() // the script cleans up after the end of its input
		}
		return err
	})
}

// tempName is hidden, tells whose it is, and stays within the 255 bytes that a
// file name may have.
func tempName(target, nonce string) string {
	base := path.Base(target)
	return path.Join(path.Dir(target), ".fleetd-"+base[:min(len(base), 200)]+"."+nonce)
}

func ownerSpec(owner, group string) string {
	if group == "" {
		return owner
	}
	return owner + ":" + group
}

// octal writes mode bits as chmod reads them. It takes both of Go's spellings
// of setuid: the bit of fs.FileMode and the plain 04000.
func octal(m fs.FileMode) string {
	bits := uint32(m & 0o7777)
	if m&fs.ModeSetuid != 0 {
		bits |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		bits |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		bits |= 0o1000
	}
	if bits == 0 {
		return ""
	}
	return fmt.Sprintf("%04o", bits)
}

// transfer sends the content and waits for the script's verdict.
func (s *session) transfer(ctx context.Context, u Upload, temp string, talk *uploadTalk) error {
	var method string
	select {
	case method = <-talk.method:
	case <-s.exited:
		return s.verdict(ctx, u, talk, nil)
	case <-s.conn.life.Done():
		return s.conn.lostErr()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	// What the caller does with the content afterwards is his affair.
	content := &lent{ReadSeeker: u.Content}
	u.Content = content
	defer content.takeBack()
	sent := make(chan error, 1)
	s.conn.pool.work.Go(func() {
		if method == "sftp" {
			sent <- s.sendSFTP(u, temp)
		} else {
			sent <- s.sendPlain(u)
		}
	})
	var sendErr error
	select {
	case sendErr = <-sent:
	case <-s.conn.life.Done():
		return s.conn.lostErr()
	case <-ctx.Done():
		// Closing the channel is the end of file that the script cleans up after.
		s.ch.Close()
		return context.Cause(ctx)
	}
	_ = s.ch.CloseWrite()
	return s.verdict(ctx, u, talk, sendErr)
}

// lent is content that is not read any more once it was taken back.
type lent struct {
	io.ReadSeeker
	mu   sync.Mutex
	back bool
}

func (l *lent) takeBack() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.back = true
}

func (l *lent) Read(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.back {
		return 0, errors.New("the upload is over")
	}
	return l.ReadSeeker.Read(b)
}

// writeSize is the largest write that OpenSSH's sftp-server, of any version,
// takes in one request (256 KiB less its header): fewer, larger writes save it
// system calls. 16 of them under way are twice the 2 MiB window that sshd grants
// a channel; more would only wait there.
const (
	writeSize   = 255 << 10
	maxInFlight = 16
)

func (s *session) sendSFTP(u Upload, temp string) error {
	client, err := sftp.NewClientPipe(s.ch, noClose{s.ch},
		sftp.MaxPacketUnchecked(writeSize), sftp.UseConcurrentWrites(true), sftp.MaxConcurrentRequestsPerFile(maxInFlight))
	if err != nil {
		return fmt.Errorf("SFTP: %w", err)
	}
	defer client.Close()
	f, err := client.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	n, err := f.ReadFromWithConcurrency(io.LimitReader(u.Content, u.Size), maxInFlight)
	if err == nil {
		err = u.whole(n)
	}
	if _, ok := client.HasExtension("fsync@openssh.com"); ok && err == nil {
		// Without it a power cut after the rename could leave an empty file.
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// sendPlain is for a node without an SFTP server.
func (s *session) sendPlain(u Upload) error {
	n, err := io.Copy(s.ch, io.LimitReader(u.Content, u.Size))
	if err == nil {
		err = u.whole(n)
	}
	return err
}

func (u Upload) whole(n int64) error {
	if n != u.Size {
		return fmt.Errorf("the content has %d bytes, not %d", n, u.Size)
	}
	return nil
}

// noClose ends our side of the stream where sftp would close it.
type noClose struct {
	ch interface{ CloseWrite() error }
}

func (n noClose) Write(b []byte) (int, error) { return n.ch.(io.Writer).Write(b) }
func (n noClose) Close() error                { return n.ch.CloseWrite() }

// verdict waits for the script's end and explains it.
func (s *session) verdict(ctx context.Context, u Upload, talk *uploadTalk, sendErr error) error {
	// The SFTP client has read its answers; what remains is for nobody, but it
	// must not fill the window.
	s.conn.pool.work.Go(func() { _, _ = io.Copy(io.Discard, s.ch) })
	select {
	case <-s.exited:
	case <-s.conn.life.Done():
		return s.conn.lostErr()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-s.errDone:
	case <-time.After(drainQuiet):
	case <-ctx.Done():
	}
	if !s.status.seen {
		return s.conn.lostErr()
	}
	return uploadFault(u, s.status.code, talk, sendErr)
}

// scriptFaults are the script's own exit statuses.
var scriptFaults = map[int]string{
	90: "there is a directory of that name",
	91: "cannot create directory DIR: CAUSE",
	92: "cannot write in DIR: CAUSE",
	93: "the digest on the node is DIGEST, not what was sent",
	94: "cannot set the owner OWNER: CAUSE",
	95: "cannot set the mode MODE: CAUSE",
	96: "cannot rename the temporary file: CAUSE",
	97: "there is no directory DIR",
	98: "no permission to write in DIR",
}

// uploadFault explains how the script on the node ended.
func uploadFault(u Upload, code int, talk *uploadTalk, sendErr error) error {
	if code == 0 {
		return nil
	}
	dir := path.Dir(u.Path)
	if sendErr != nil && !errors.Is(sendErr, io.EOF) {
		f := &Error{Kind: KindFile, Err: sendErr}
		if e, ok := errors.AsType[*sftp.StatusError](sendErr); ok && e.FxCode() == sftp.ErrSSHFxFailure {
			// SFTP has no code for it.
			f.Err = errors.New("the host could not write it, and its SFTP server does not say why")
			f.Hint = "is the file system full, or the quota used up? df -h " + words.Copyable(dir) + "; df -i " + words.Copyable(dir)
		}
		return f
	}
	said, digest := talk.result()
	what := cmp.Or(scriptFaults[code], fmt.Sprintf("the upload ended with status %d: CAUSE", code))
	hint := map[int]string{
		93: "is the file system full, or was the content changed while it was read?",
		97: "create it first, or have it created (MkdirMode)",
		98: "use become",
	}[code]
	switch {
	case code == 93 && digest == "none":
		what, hint = "the node has no program that computes SHA-256", "install coreutils or openssl there"
	case code == 98 && u.Become:
		hint = ""
	}
	fill := strings.NewReplacer("DIR", dir, "OWNER", ownerSpec(u.Owner, u.Group), "MODE", octal(u.Mode), "DIGEST", digest,
		"CAUSE", cmp.Or(said, fmt.Sprintf("status %d", code)))
	return &Error{Kind: KindFile, Err: errors.New(fill.Replace(what)), Hint: hint}
}

// An uploadTalk reads the script's words on standard error.
type uploadTalk struct {
	*capture
	prefix string
	method chan string // "sftp" or "cat"
	told   bool
	seen   []byte // the last of what was read, until then
}

func newUploadTalk(nonce string) *uploadTalk {
	return &uploadTalk{newCapture(8 << 10), "fleetd-" + nonce + " ", make(chan string, 1), false, nil}
}

func (t *uploadTalk) Write(b []byte) (int, error) {
	if !t.told {
		t.seen = append(t.seen, b...)
		for _, m := range []string{"sftp", "cat"} {
			if !t.told && bytes.Contains(t.seen, []byte(t.prefix+m+"\n")) {
				t.told = true
				t.method <- m
			}
		}
		t.seen = t.seen[max(0, len(t.seen)-len(t.prefix)-len("sftp\n")):]
	}
	return t.capture.Write(b)
}

// result is what others than the script said, three lines of it, and the digest that
// the script has found.
func (t *uploadTalk) result() (said, digest string) {
	out, _ := t.end()
	var lines []string
	for line := range strings.Lines(text.Printable(string(out))) {
		line = strings.TrimRight(line, "\n")
		word, ours := strings.CutPrefix(line, t.prefix)
		if d, is := strings.CutPrefix(word, "digest "); ours && is {
			digest = d
		} else if !ours && line != "" && len(lines) < 3 {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; "), digest
}
