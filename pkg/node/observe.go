package node

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/words"
)

//go:embed facts.sh
var script string

//go:embed file.sh
var fileFunction string

// Observer reads section "node" of many hosts at once.
type Observer struct {
	// Remote reaches the hosts.
	Remote Connector
	// Forks is how many hosts are read at the same time; 0 = 5, as Ansible's.
	// Those that are being connected to do not count: 20 hosts that are down
	// must not hold up 280 that are not.
	Forks int
	// Timeout bounds the script on one host; 0 = 5 minutes, which is more than
	// a repository that does not answer costs.
	Timeout time.Duration
	// Read, if set, is told of each host that has been read or could not be. It
	// may be called by several goroutines at once.
	Read func(host string)
}

// A Connector is a Remote that connects before there is anything to run. It
// bounds by itself how many hosts it connects to at a time.
type Connector interface {
	Remote
	Connect(ctx context.Context, host string) error
	// Reached tells where the host was reached and by which host key, as far as
	// a connection is open.
	Reached(host string) (address, hostKey string)
}

var _ rollout.Observer = Observer{}

// Section is "node".
func (o Observer) Section() string { return Section.Name() }

// Observe reads each host in one round trip. A host that cannot be read has
// its error; the others are not held up by it beyond the timeout.
func (o Observer) Observe(ctx context.Context, keys map[string][]string) map[string]rollout.SectionObservation {
	forks := o.Forks
	if forks <= 0 {
		forks = 5
	}
	out := make(map[string]rollout.SectionObservation, len(keys))
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, forks)
	for _, h := range slices.Sorted(maps.Keys(keys)) {
		wg.Go(func() {
			so := o.one(ctx, h, keys[h], slots)
			if o.Read != nil {
				o.Read(h)
			}
			mu.Lock()
			out[h] = so
			mu.Unlock()
		})
	}
	wg.Wait()
	return out
}

func (o Observer) one(ctx context.Context, host string, keys []string, slots chan struct{}) rollout.SectionObservation {
	if err := checkKeys(host, keys); err != nil {
		return rollout.SectionObservation{Err: err}
	}
	if host == rollout.Localhost {
		// No task looks at this machine beforehand: what is run here says itself what
		// it does.
		id, err := hereIdentity()
		return rollout.SectionObservation{Value: []byte("{}"), Err: err, Identity: id}
	}
	if err := o.Remote.Connect(ctx, host); err != nil {
		return rollout.SectionObservation{Err: fmt.Errorf("cannot read the facts of %s: %w", host, err)}
	}
	slots <- struct{}{}
	defer func() { <-slots }()
	all := slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return k == MachineKey })
	if len(all) == 0 && len(keys) > 0 {
		return o.machine(ctx, host)
	}
	f, err := gather(ctx, o.Remote, host, true, o.Timeout, all)
	if err != nil {
		return rollout.SectionObservation{Err: err}
	}
	raw, err := json.Marshal(f)
	if err != nil {
		return rollout.SectionObservation{Err: fmt.Errorf("cannot encode the facts of %s: %w", host, err)}
	}
	return rollout.SectionObservation{Value: raw, Identity: o.identity(host, f)}
}

// MachineKey is the read key for nothing but which machine it is: neither root nor
// rpm is needed to tell, and a node that is no EL has it as well.
const MachineKey = "machine"

func (o Observer) machine(ctx context.Context, host string) rollout.SectionObservation {
	timeout := o.Timeout
	if timeout <= 0 {
		timeout = time.Minute
	}
	res, err := o.Remote.Run(ctx, host, sshexec.Command{Argv: []string{"cat", "/etc/machine-id", "/var/lib/dbus/machine-id"}, Timeout: timeout, Harmless: true})
	if err != nil {
		return rollout.SectionObservation{Err: fmt.Errorf("cannot tell which machine %s is: %w", host, err)}
	}
	// Either file will do, as for the facts. One that has none is told by its address and host key.
	id := parseMachineID(string(res.Stdout))
	return rollout.SectionObservation{Value: []byte("{}"), Identity: o.identity(host, Facts{MachineID: id})}
}

// identity is what tells the machine that answered from every other. None of it
// does so alone: clones share a machine-id, and some a host key; an address can
// be given to another machine.
func (o Observer) identity(host string, f Facts) map[string]string {
	address, hostKey := o.Remote.Reached(host)
	id := map[string]string{"address": address, "host_key": hostKey, "machine_id": f.MachineID}
	maps.DeleteFunc(id, func(_, v string) bool { return v == "" })
	return id
}

// Gather reads the facts of one host. The script wants root: become says
// whether the connection's user has to become it.
func Gather(ctx context.Context, r Remote, host string, become bool, keys ...string) (Facts, error) {
	if err := checkKeys(host, keys); err != nil {
		return Facts{}, err
	}
	return gather(ctx, r, host, become, 0, keys)
}

// GatherPackages reads only what has to do with packages: BootID, Running, OS,
// Arch, Installed and Yum; the other fields are empty.
func GatherPackages(ctx context.Context, r Remote, host string, become bool) (Facts, error) {
	return gather(ctx, r, host, become, 0, brief)
}

// maxFacts bounds what one node can make the bastion hold.
const maxFacts = 8 << 20

func gather(ctx context.Context, r Remote, host string, become bool, timeout time.Duration, keys []string) (Facts, error) {
	if timeout <= 0 {
		timeout = 5 * time.Minute
	}
	res, err := r.Run(ctx, host, sshexec.Command{Script: programFor(keys), Become: become, Timeout: timeout, MaxOutput: maxFacts, Harmless: true})
	if err != nil {
		return Facts{}, fmt.Errorf("cannot read the facts of %s: %w", host, err)
	}
	f, err := Parse(res.Stdout)
	if err == nil && res.Truncated {
		err = fmt.Errorf("they are larger than %d MB", maxFacts>>20)
	}
	var unfit *rollout.Problem
	if errors.As(err, &unfit) {
		// The script is all there: it is the node that is broken.
		return Facts{}, &rollout.Problem{Message: fmt.Sprintf("cannot read the facts of %s: %s", host, err), Hint: "on " + host + ": " + unfit.Hint}
	}
	if err != nil {
		said := strings.TrimSpace(firstLine(text.Printable(string(res.Stderr))))
		if said != "" {
			said = " (" + said + ")"
		}
		return Facts{}, fmt.Errorf("cannot read the facts of %s: exit status %d: %w%s", host, res.ExitStatus, err, said)
	}
	return f, nil
}

// programFor is the script with its arguments set: the read keys that are not
// the empty one.
func programFor(keys []string) string {
	argv := []string{"set", "--"}
	for _, k := range keys {
		if k != "" {
			argv = append(argv, k)
		}
	}
	title := strings.TrimSpace("# read the facts " + strings.Join(argv[2:], " "))
	return title + "\n" + words.Quote(argv...) + "\n" + fileFunction + script
}

// brief stands for the keys of GatherPackages. No module may read it: half the
// facts would pass for all.
var brief = []string{"brief"}

// PackageKey is the read key for the versions of a package in a repository.
func PackageKey(name, repo string) string { return "package=" + name + "@" + repo }

// InstallKey is the read key for what yum would do if it were told to install a
// package, with the version behind its name or without.
func InstallKey(pkg, repo string) string { return "install=" + pkg + "@" + repo }

// UpkeepKey is the read key for Facts.Upkeep.
const UpkeepKey = "upkeep"

// UnstagedKey is the read key that has the repositories asked also where the packages
// are staged.
const UnstagedKey = "unstaged"

// FileKey is the read key for one file.
func FileKey(path string) string { return "file=" + path }

// TextKey is the read key for the contents of a small file.
func TextKey(path string) string { return "text=" + path }

func checkKeys(host string, keys []string) error {
	for _, k := range keys {
		if k == "" {
			continue
		}
		if err := checkKey(k); err != nil {
			return fmt.Errorf("cannot read the facts of %s: %w", host, err)
		}
	}
	return nil
}

func checkKey(k string) error {
	if k == MachineKey || k == UnstagedKey || k == UpkeepKey {
		return nil
	}
	kind, arg, _ := strings.Cut(k, "=")
	if strings.ContainsAny(arg, "\n\r\x00") {
		return fmt.Errorf("read key %q has a control character", k)
	}
	switch kind {
	case "file", "text":
		if strings.HasPrefix(arg, "/") {
			return nil
		}
		return fmt.Errorf("read key %q: the path is not absolute", k)
	case "package", "install":
		name, repo, found := strings.Cut(arg, "@")
		if found && isWord(name) && isWord(repo) {
			return nil
		}
		return fmt.Errorf("read key %q is not %s=<name>@<repo>", k, kind)
	}
	return fmt.Errorf("read key %q is none of package=<name>@<repo>, install=<package>@<repo>, file=<path>, text=<path>, upkeep", k)
}

// isWord tells a name that is safe as an unquoted word, a glob's letters and an
// option's dash excluded: the repository's name becomes part of yum's options.
func isWord(s string) bool { return s != "" && s[0] != '-' && madeOf(s, "._+-:~^") }

// madeOf tells that s has only ASCII letters, digits and these others.
func madeOf(s, others string) bool {
	return strings.TrimLeftFunc(s, func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune(others, c)
	}) == ""
}

func firstLine(s string) string {
	first, _, _ := strings.Cut(s, "\n")
	return first
}
