package sshexec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/pkg/sftp"

	"github.com/fleetd/fleetd/pkg/words"
)

// uploadFault explains how the script on the node ended.
func uploadFault(u Upload, code int, talk *uploadTalk, sendErr error) error {
	if code == 0 {
		return nil
	}
	dir := path.Dir(u.Path)
	said, digest := talk.result()
	f := &Error{Kind: KindFile}
	cause := errors.New(said)
	if said == "" {
		cause = fmt.Errorf("status %d", code)
	}
	if sendErr != nil && !errors.Is(sendErr, io.EOF) {
		f.Err = sendErr
		if e, ok := errors.AsType[*sftp.StatusError](sendErr); ok && e.FxCode() == sftp.ErrSSHFxFailure {
			// SFTP has no code for it.
			f.Err = errors.New("the host could not write it, and its SFTP server does not say why")
			f.Hint = "is the file system full, or the quota used up? df -h " + words.Copyable(dir) + "; df -i " + words.Copyable(dir)
		}
		return f
	}
	switch code {
	case 90:
		f.Err = errors.New("there is a directory of that name")
	case 91:
		f.Err = fmt.Errorf("cannot create directory %s: %w", dir, cause)
	case 92:
		f.Err = fmt.Errorf("cannot write in %s: %w", dir, cause)
	case 93:
		if digest == "none" {
			f.Err = errors.New("the node has no program that computes SHA-256")
			f.Hint = "install coreutils or openssl there"
		} else {
			f.Err = fmt.Errorf("the digest on the node is %s, not what was sent", digest)
			f.Hint = "is the file system full, or was the content changed while it was read?"
		}
	case 94:
		f.Err = fmt.Errorf("cannot set the owner %s: %w", ownerSpec(u.Owner, u.Group), cause)
	case 95:
		f.Err = fmt.Errorf("cannot set the mode %s: %w", octal(u.Mode), cause)
	case 96:
		f.Err = fmt.Errorf("cannot rename the temporary file: %w", cause)
	case 97:
		f.Err = fmt.Errorf("there is no directory %s", dir)
		f.Hint = "create it first, or have it created (MkdirMode)"
	case 98:
		f.Err = fmt.Errorf("no permission to write in %s", dir)
		if !u.Become {
			f.Hint = "use become"
		}
	default:
		f.Err = fmt.Errorf("the upload ended with status %d: %w", code, cause)
	}
	return f
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
	for line := range strings.Lines(Printable(string(out))) {
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
