package nodes

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// keyPair is an Ed25519 key.
type keyPair struct {
	private []byte // PEM
	public  string // "ssh-ed25519 …"
}

func generateKey() (keyPair, error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return keyPair{}, err
	}
	block, err := ssh.MarshalPrivateKey(priv, "fleetd-lab")
	if err != nil {
		return keyPair{}, err
	}
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		return keyPair{}, err
	}
	return keyPair{private: pem.EncodeToMemory(block), public: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))}, nil
}

// newKey makes the lab's login key, in a file.
func newKey(file string) (public string, err error) {
	k, err := generateKey()
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(file, k.private, 0o600); err != nil {
		return "", err
	}
	return k.public, os.Chmod(file, 0o600) // a file that was there keeps its mode
}

// prepare makes a node's folder: an empty overlay on the image's disk, and the seed.
func (l *Lab) prepare(i int, n NodeConfig, img image, login string, kubelet *Kubelet) (hostKey string, err error) {
	dir := l.nodeDir(i)
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	node := &Node{Index: i, Name: n.Name, lab: l}
	key, err := generateKey()
	if err != nil {
		return "", err
	}
	files := map[string]File{
		"/etc/hostname": {Content: []byte(n.Name + "\n")},
		"/etc/hosts":    {Content: []byte("127.0.0.1 localhost " + n.Name + "\n")},
		// sshd refuses a key that others may read.
		"/etc/ssh/ssh_host_ed25519_key":     {Content: key.private, Mode: 0o600},
		"/etc/ssh/ssh_host_ed25519_key.pub": {Content: []byte(key.public + "\n")},
		"/root/.ssh/authorized_keys":        {Content: []byte(login + "\n"), Mode: 0o600},
		"/home/centos/.ssh/authorized_keys": {Content: []byte(login + "\n"), Mode: 0o600, UID: 1000},
		"/home/ops/.ssh/authorized_keys":    {Content: []byte(login + "\n"), Mode: 0o600, UID: 1001},
	}
	for name, pattern := range map[string]string{"panic-on": n.PanicOn, "hang-on": n.HangOn, "no-network-on": n.NoNetworkOn} {
		if pattern != "" {
			files["/etc/fleetd-lab/"+name] = File{Content: []byte(pattern + "\n")}
		}
	}
	for _, lie := range n.Lies {
		files["/etc/fleetd-lab/"+string(lie)] = File{}
	}
	if n.RealDracut {
		files["/etc/fleetd-lab/real-dracut"] = File{}
	}
	if kubelet != nil {
		maps.Copy(files, kubelet.files(n.Name))
	}
	maps.Copy(files, n.Files)
	seed, err := seedTar(files)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(node.seedPath(), seed, 0o600); err != nil {
		return "", err
	}
	return key.public, run(context.Background(), "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", img.disk(), node.diskPath())
}

// seedTar packs files as the machine unpacks them at /: the folders named .ssh belong to their user, all
// others that are missing to root. Its size is a whole number of disk sectors, as tar's is.
func seedTar(files map[string]File) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f := files[name]
		if !path.IsAbs(name) || path.Clean(name) != name {
			return nil, fmt.Errorf("file %q: not a clean absolute path", name)
		}
		if d := path.Dir(name); path.Base(d) == ".ssh" {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: d[1:] + "/", Mode: 0o700, Uid: f.UID, Gid: f.UID, ModTime: time.Now()}); err != nil {
				return nil, err
			}
		}
		mode := f.Mode
		if mode == 0 {
			mode = 0o644
		}
		if err := w.WriteHeader(&tar.Header{Name: name[1:], Mode: int64(mode.Perm()), Uid: f.UID, Gid: f.UID, Size: int64(len(f.Content)), ModTime: time.Now()}); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.Content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func (l *Lab) writeKnownHosts() error {
	var lines strings.Builder
	var errs []error
	for _, n := range l.Nodes() {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(n.HostKey))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		lines.WriteString(knownhosts.Line([]string{n.Address, n.Name}, key) + "\n")
	}
	return errors.Join(append(errs, os.WriteFile(l.KnownHosts, []byte(lines.String()), 0o644))...)
}
