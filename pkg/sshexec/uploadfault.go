package sshexec

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"

	"github.com/pkg/sftp"

	"github.com/fleetd/fleetd/pkg/sshexec/internal/wire"
)

// uploadFault explains how the script on the node ended.
func uploadFault(u Upload, code int, talk *uploadTalk, sendErr error) error {
	if code == 0 {
		return nil
	}
	dir := path.Dir(u.Path)
	said, digest := talk.result()
	f := &fault{kind: KindFile}
	cause := errors.New(said)
	if said == "" {
		cause = fmt.Errorf("status %d", code)
	}
	if sendErr != nil && !errors.Is(sendErr, io.EOF) {
		f.err = sendErr
		if e, ok := errors.AsType[*sftp.StatusError](sendErr); ok && e.FxCode() == sftp.ErrSSHFxFailure {
			// SFTP has no code for it.
			f.err = errors.New("the host could not write it, and its SFTP server does not say why")
			f.hint = "is the file system full, or the quota used up? df -h " + wire.Word(dir) + "; df -i " + wire.Word(dir)
		}
		return f
	}
	switch code {
	case 90:
		f.err = errors.New("there is a directory of that name")
	case 91:
		f.err = fmt.Errorf("cannot create directory %s: %w", dir, cause)
	case 92:
		f.err = fmt.Errorf("cannot write in %s: %w", dir, cause)
	case 93:
		if digest == "none" {
			f.err = errors.New("the node has no program that computes SHA-256")
			f.hint = "install coreutils or openssl there"
		} else {
			f.err = fmt.Errorf("the digest on the node is %s, not what was sent", digest)
			f.hint = "is the file system full, or was the content changed while it was read?"
		}
	case 94:
		f.err = fmt.Errorf("cannot set the owner %s: %w", ownerSpec(u.Owner, u.Group), cause)
	case 95:
		f.err = fmt.Errorf("cannot set the mode %s: %w", octal(u.Mode), cause)
	case 96:
		f.err = fmt.Errorf("cannot rename the temporary file: %w", cause)
	case 97:
		f.err = fmt.Errorf("there is no directory %s", dir)
		f.hint = "create it first, or have it created (MkdirMode)"
	case 98:
		f.err = fmt.Errorf("no permission to write in %s", dir)
		if !u.Become {
			f.hint = "use become"
		}
	default:
		f.err = fmt.Errorf("the upload ended with status %d: %w", code, cause)
	}
	return f
}

// uploadTalk reads the script's words on standard error.
type uploadTalk struct {
	prefix string
	method chan string

	mu     sync.Mutex
	lines  lineSplitter
	digest string
	said   []string
}

func newUploadTalk(nonce string) *uploadTalk {
	t := &uploadTalk{prefix: "fleetd-" + nonce + " ", method: make(chan string, 1)}
	t.lines.emit = func(line string) {
		word, ok := strings.CutPrefix(line, t.prefix)
		switch digest, isDigest := strings.CutPrefix(word, "digest "); {
		case !ok:
			if len(t.said) < 3 {
				t.said = append(t.said, line)
			}
		case isDigest:
			t.digest = digest
		default:
			select {
			case t.method <- word:
			default:
			}
		}
	}
	return t
}

func (t *uploadTalk) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines.write(b)
	return len(b), nil
}

func (t *uploadTalk) result() (said, digest string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines.flush()
	return strings.Join(t.said, "; "), t.digest
}
