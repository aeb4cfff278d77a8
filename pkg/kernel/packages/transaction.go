// Package packages has yum install a kernel, or take it away: one exact package, with
// what belongs to it, staged on the node before if wanted. Its modules are
// fleetd.kernel.stage and fleetd.kernel.package.
//
// A transaction of yum is begun by one call and looked at by later ones. A note that was
// durable before it says afterwards that it may have been begun. What yum's exit status
// says of it is not believed: rpm is asked.
package packages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/kernel/wanted"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// Transaction is an install of a kernel by yum, as it was planned.
type Transaction struct {
	Package node.Package `json:"package"`
	Repo    string       `json:"repo,omitempty"`
	// With are the packages that are kept in step with it (stepSuffixes).
	With []string `json:"with,omitempty"`
	// Changes are all that yum would do; none = not known.
	Changes []node.PackageChange `json:"transaction,omitempty"`
}

// Bind is the transaction that installs a package on a node.
func Bind(f node.Facts, w wanted.Kernel, p node.Package) Transaction {
	changes := f.Transactions[w.Key()]
	return Transaction{p, w.Repo, inStep(f, p, changes), changes}
}

// args are yum's, for one repository that may be disabled and all that are not. The
// plan asks the same (would_install in pkg/node/facts.sh). Where the packages are
// staged, they are taken from there, with the metadata that was staged with them, and
// the network is left alone.
func (t Transaction) args(staged bool, how ...string) []string {
	var args []string
	if staged {
		args = []string{"-C", "--setopt=cachedir=" + node.StageDir}
	}
	args = append(append(args, "--enablerepo="+t.Repo, "install"), how...)
	return append(append(args, t.Package.NEVRA()), t.With...)
}

// isStaged tells that the package waits on the node for its install.
func (t Transaction) isStaged(f node.Facts) bool {
	return f.Staged.Package == withoutEpoch(t.Package).NEVRA() && strings.HasSuffix(f.Staged.Question, "@"+t.Repo)
}

// Ready looks whether yum could do it now, and would do the same.
func (t Transaction) Ready(ctx context.Context, r node.Remote, s rollout.Step, f node.Facts) (rollout.Outcome, bool) {
	if out, free := waitForLock(s, f); !free {
		return out, false
	}
	staged := t.isStaged(f)
	var err error
	if !staged {
		err = t.offered(ctx, r, s, f)
	}
	if err == nil {
		_, _, err = t.would(ctx, r, s, staged)
	}
	if err != nil {
		return rollout.Fail(err), false
	}
	return rollout.Outcome{}, true
}

// offered asks the repository once more for the planned package: ELRepo keeps only the
// newest version, so the one of last week's plan may be gone.
func (t Transaction) offered(ctx context.Context, r node.Remote, s rollout.Step, f node.Facts) error {
	repo, p := t.Repo, t.Package
	res, err := run(ctx, r, s, 3*time.Minute, "yum", "--disablerepo=*", "--enablerepo="+repo,
		"--setopt="+repo+".skip_if_unavailable=0", "--setopt="+repo+".metadata_expire=60",
		"list", "available", "--showduplicates", p.Name)
	if err != nil {
		return fmt.Errorf("cannot ask repository %s on %s: %w", repo, s.Host, err)
	}
	offered, why := node.ParseAvailable(string(res.Stdout)+string(res.Stderr), res.ExitStatus, p.Name, repo)
	if why != "" {
		f.RepoErrors = map[string]string{repo: why}
	}
	f.Available = map[string][]node.Package{p.Name + "@" + repo: offered}
	_, err = wanted.Choose(s.Host, f, wanted.Kernel{Name: p.Name, Repo: repo, Version: p.EVR})
	var problem *rollout.Problem
	if errors.As(err, &problem) && why == "" {
		problem.Hint = "make a new plan: fleetd plan"
	}
	return err
}

// stepSuffixes are the packages of a kernel that are kept in step with it where they
// are installed, and never pulled in: kernel-ml-headers replaces the distribution's.
var stepSuffixes = []string{"-devel", "-headers", "-tools", "-tools-libs"}

// inStep are those of them that the node has in another version, in that of p, as far
// as the transaction, if it is known, has them.
func inStep(f node.Facts, p node.Package, transaction []node.PackageChange) (with []string) {
	for _, q := range f.Installed {
		if suffix, ours := strings.CutPrefix(q.Name, p.Name); !ours || !slices.Contains(stepSuffixes, suffix) {
			continue
		}
		q.EVR = p.EVR
		planned := transaction == nil || slices.ContainsFunc(transaction, func(c node.PackageChange) bool { return c.Package == q })
		if planned && !slices.Contains(f.Installed, q) && !slices.Contains(with, q.NEVRA()) {
			with = append(with, q.NEVRA())
		}
	}
	return with
}

// would asks yum once more what it would do, of exactly what it will be told to do:
// once a node is drained, an install that fails costs an outage, and what was not
// reviewed is not installed. size is what it would download, in bytes.
func (t Transaction) would(ctx context.Context, r node.Remote, s rollout.Step, staged bool) (would []node.PackageChange, size int64, err error) {
	res, err := run(ctx, r, s, 3*time.Minute, append([]string{"yum"}, t.args(staged, "--assumeno")...)...)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot ask yum on %s: %w", s.Host, err)
	}
	text := string(res.Stdout) + string(res.Stderr)
	would, why := node.WouldInstall(text, res.ExitStatus)
	if why != "" {
		return nil, 0, wanted.WouldNot(s.Host, t.Repo, t.Package, why)
	}
	if t.Changes != nil && !slices.Equal(t.Changes, would) {
		return nil, 0, &rollout.Problem{
			Message: fmt.Sprintf("cannot install %s on %s: yum would do something else by now than was planned: %s; was planned: %s", t.Package.NEVRA(), s.Host, listed(would), listed(t.Changes)),
			Hint:    "make a new plan: fleetd plan",
		}
	}
	return would, node.DownloadSize(text), nil
}

func listed(changes []node.PackageChange) string {
	var out []string
	for _, c := range changes {
		out = append(out, c.Action+" "+c.NEVRA())
	}
	return strings.Join(out, ", ")
}

// fields are what a person reads of it.
func (t Transaction) fields(f node.Facts) []rollout.Field {
	fields := []rollout.Field{{Name: "package", After: t.Package.NEVRA()}}
	for _, c := range t.Changes {
		switch {
		case c.Action == "remove":
			fields = append(fields, rollout.Field{Name: "package that yum removes", Before: c.NEVRA()})
		case c.Package != t.Package:
			was := ""
			for _, q := range f.Installed {
				if c.Action == "upgrade" && q.Name == c.Name && q.Arch == c.Arch {
					was = q.NEVRA()
				}
			}
			fields = append(fields, rollout.Field{Name: "package that yum " + c.Action + "s with it", Before: was, After: c.NEVRA()})
		}
	}
	return fields
}

// installed asks rpm whether the package is there, and what is kept in step with it.
func (t Transaction) installed(ctx context.Context, r node.Remote, s rollout.Step) (bool, error) {
	res, err := run(ctx, r, s, time.Minute, append([]string{"rpm", "-q", t.Package.NEVRA()}, t.With...)...)
	if err != nil {
		return false, err
	}
	// rpm prints what it found, "package … is not installed" for what it did not.
	return res.OK() && slices.Contains(strings.Fields(string(res.Stdout)), withoutEpoch(t.Package).NEVRA()), nil
}
