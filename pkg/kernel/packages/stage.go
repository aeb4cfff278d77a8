package packages

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/kernel/wanted"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/text"
)

// stage is fleetd.kernel.stage: all packages of a later install are on the node, and
// their digests and signatures are good. They lie in a cache of yum's of their own, with
// the metadata that they were chosen by, so that the install asks the same question and
// gets the same answer without the network; another transaction, after which dnf clears
// its cache, does not concern them. Nothing is installed, and no key imported.
type stage struct{ remote node.Remote }

// Stage returns fleetd.kernel.stage.
func Stage(remote node.Remote) rollout.Module { return stage{remote} }

type stageData struct {
	Transaction
	// Question is what the answer will be good for, as in node.Staged.
	Question string `json:"question"`
	// Unsigned tells that the repository's packages are not checked against a key.
	Unsigned bool `json:"unsigned,omitempty"`
}

func (stage) About() rollout.About {
	return rollout.About{Params: wanted.Params(rollout.Params{
		"refresh": {Type: rollout.Bool, Help: "ask the repositories also where packages are staged (default true)"},
	})}
}

func (stage) Reads(args rollout.Args) []rollout.Read {
	reads := wanted.Reads(args)
	if refresh, given := args["refresh"].(bool); refresh || !given {
		reads = append(reads, rollout.Read{Section: node.Section.Name(), Key: node.UnstagedKey})
	}
	return reads
}

func (stage) Diff(host string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	f, err := node.Section.Get(before)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	w := wanted.Args(args)
	choice, err := wanted.Choose(host, f, w)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	p := choice.Package
	if choice.Installed {
		return rollout.Change{Action: rollout.NoOp, Summary: p.NEVRA() + " is installed"}, before, nil
	}
	t := Bind(f, w, p)
	c := rollout.Change{Action: rollout.NoOp, Summary: p.NEVRA() + " is staged, since " + f.Staged.Since, Fields: t.fields(f)}
	if t.isStaged(f) && f.Staged.Question == w.Key() {
		return c, before, nil
	}
	if err := roomToStage(host, f, f.Downloads[w.Key()]); err != nil {
		return rollout.Change{}, nil, err
	}
	repo, known := f.Repos[w.Repo]
	c.Data, err = json.Marshal(stageData{Transaction: t, Question: w.Key(), Unsigned: known && !repo.GPGCheck})
	if err != nil {
		return rollout.Change{}, nil, err
	}
	c.Action, c.Summary, c.Reasons = rollout.Create, "download "+p.NEVRA()+", and install nothing", []string{reason(w, p)}
	c.Note, c.Back = t.stageNote(f, w), "remove "+node.StageDir
	return c, before, nil
}

// stageNote says what an install has still to download.
func (t Transaction) stageNote(f node.Facts, w wanted.Kernel) string {
	size := f.Downloads[w.Key()]
	switch day, _, _ := strings.Cut(f.Staged.Since, "T"); {
	case t.isStaged(f):
		return "staged " + day
	case size > 0:
		return fmt.Sprintf("%d MB to download", (size+1<<20-1)>>20)
	}
	return ""
}

// stageSpare is what is left free beside the packages: for metadata, and for others.
const stageSpare = 300 << 20

func roomToStage(host string, f node.Facts, size int64) error {
	m, ok := f.Mount(node.StageDir)
	if !ok || m.Free >= size+stageSpare {
		return nil
	}
	return &rollout.Problem{
		Message: fmt.Sprintf("cannot stage packages on %s: %s has %d MB free, and %d MB are to stay free beside the %d MB to download", host, m.Point, m.Free>>20, stageSpare>>20, size>>20),
		Hint:    fmt.Sprintf("on %s: yum clean packages; journalctl --vacuum-size=200M; du -xsh /var/* | sort -h", host),
	}
}

func (m stage) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	var d stageData
	if err := json.Unmarshal(s.Change.Data, &d); err != nil {
		return rollout.Fail(fmt.Errorf("cannot read what was planned for %s: %w", s.Host, err))
	}
	if s.SoFar[noteYum] == "" {
		return m.intend(ctx, s, d)
	}
	// No key gets into rpm's database: signatures are checked here, and by yum when it
	// installs.
	args := []string{"--setopt=cachedir=" + node.StageDir, "--setopt=*.gpgcheck=0", "--setopt=metadata_expire=1", "--setopt=*.metadata_expire=1"}
	ended, out, over := yum(ctx, m.remote, s, append(args, d.args(false, "-y", "--downloadonly")...)...)
	if !over {
		return out
	}
	// Asked of what is staged alone, yum has the answer that it will have in the window.
	would, missing, err := d.would(ctx, m.remote, s, true)
	if err == nil && missing > 0 {
		err = fmt.Errorf("%d bytes are still to be downloaded", missing)
	}
	var files []stagedFile
	if err == nil {
		files, err = m.files(ctx, s)
	}
	if err == nil {
		files, err = d.verified(would, files)
	}
	if err != nil {
		why := fmt.Errorf("cannot stage %s on %s: yum ended with %s (%s): %w", d.Package.NEVRA(), s.Host, ended, yumSaid(ctx, m.remote, s), err)
		return yumAgain(ctx, m.remote, s, d.Repo, why, fmt.Sprintf("on %s: cat %s; ls -lR %s. Nothing was installed there.", s.Host, yumLog, node.StageDir))
	}
	if err := m.keep(ctx, s, d, files); err != nil {
		return rollout.Fail(err)
	}
	checked := "digest and signature"
	if d.Unsigned {
		checked = "digest only (gpgcheck=0)"
	}
	return rollout.Did("staged %s; files checked, %s: %d", d.Package.NEVRA(), checked, len(files))
}

// intend looks whether there is anything to be staged, and whether it can be.
func (m stage) intend(ctx context.Context, s rollout.Step, d stageData) rollout.Outcome {
	f, err := node.Gather(ctx, m.remote, s.Host, s.Become)
	if err != nil {
		return rollout.Fail(err)
	}
	switch {
	case slices.Contains(f.Installed, d.Package):
		return rollout.AlreadyDone("%s is installed", d.Package.NEVRA())
	case d.isStaged(f) && f.Staged.Question == d.Question:
		return rollout.AlreadyDone("%s is staged", d.Package.NEVRA())
	}
	if out, ok := waitForLock(s, f); !ok {
		return out
	}
	_, size, err := d.would(ctx, m.remote, s, false)
	if err == nil {
		err = roomToStage(s.Host, f, size)
	}
	if err == nil {
		// The metadata that an earlier answer hangs on is about to be replaced.
		err = forgetStaged(ctx, m.remote, s)
	}
	if err != nil {
		return rollout.Fail(err)
	}
	return intendYum(s)
}

// stagedFile is one RPM file below StageDir.
type stagedFile struct {
	path string
	node.Package
	// signed tells that a signature was checked, and is good; bad is what is not.
	signed bool
	bad    string
}

// filesScript shows of each file which package it is, and what rpmkeys says of it. A
// key that rpm does not have yet, and yum is going to import, is taken from where a
// repository says that it is, into a database of its own.
const filesScript = `cd "$stage" || exit
keys=$(mktemp -d "${TMPDIR:-/tmp}/fleetd-keys.XXXXXX") || exit
trap 'rm -rf "$keys"' EXIT
for k in $(awk '
	/^[a-z_]+[ \t]*=/ { on = /^gpgkey/ }
	on { gsub(/[,=]/, " "); for (i = 1; i <= NF; i++) if ($i ~ /^(file|https?):\/\//) print $i }' /etc/yum.repos.d/*.repo | sort -u); do
	rpmkeys --dbpath "$keys" --import "${k#file://}" >/dev/null 2>&1 || :
done
find . -name '*.rpm' -type f | while read -r f; do
	echo "file $f"
	rpm -qp --nosignature --qf 'package %{NAME} %{EPOCHNUM} %{VERSION} %{RELEASE} %{ARCH}\n' "$f" 2>&1
	says=$(rpmkeys -Kv "$f" 2>&1) || says=$(rpmkeys --dbpath "$keys" -Kv "$f" 2>&1)
	printf '%s\n' "$says"
done`

// files lists what is below StageDir.
func (m stage) files(ctx context.Context, s rollout.Step) ([]stagedFile, error) {
	res, err := m.remote.Run(ctx, s.Host, sshexec.Command{
		Script: filesScript, Become: s.Become, Timeout: 10 * time.Minute, Env: map[string]string{"LC_ALL": "C", "stage": node.StageDir},
	})
	if err != nil {
		return nil, err
	}
	if !res.OK() {
		return nil, fmt.Errorf("cannot check what is in %s: %s", node.StageDir, res.Said())
	}
	return parseStaged(string(res.Stdout)), nil
}

func parseStaged(said string) (files []stagedFile) {
	for _, l := range strings.Split(text.Printable(said), "\n") {
		if path, found := strings.CutPrefix(l, "file ./"); found {
			files = append(files, stagedFile{path: path})
			continue
		}
		if len(files) == 0 {
			continue
		}
		f := &files[len(files)-1]
		if said, found := strings.CutPrefix(l, "package "); found {
			f.Package, _ = node.ParsePackage(said)
			continue
		}
		switch l = strings.TrimSpace(l); {
		case strings.Contains(strings.ToLower(l), "signature") && strings.HasSuffix(l, ": OK"):
			f.signed = true
		case f.bad == "" && (strings.Contains(l, "BAD") || strings.Contains(l, "NOKEY") || strings.Contains(l, "NOT OK") || strings.HasPrefix(l, "error: ")):
			f.bad = l
		}
	}
	return files
}

// verified are the files of all packages that yum would install, and why it has not
// good ones.
func (d stageData) verified(would []node.PackageChange, files []stagedFile) (out []stagedFile, err error) {
	for _, c := range would {
		if c.Action == "remove" {
			continue
		}
		i := slices.IndexFunc(files, func(f stagedFile) bool { return f.Package == c.Package })
		if i < 0 {
			return nil, fmt.Errorf("%s is not there", c.NEVRA())
		}
		f := files[i]
		switch {
		case f.bad != "" && !(d.Unsigned && strings.Contains(f.bad, "NOKEY")):
			return nil, fmt.Errorf("%s is no good: %s", f.path, f.bad)
		case !f.signed && !d.Unsigned:
			return nil, fmt.Errorf("%s is not signed", f.path)
		}
		out = append(out, f)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("yum has nothing to install")
	}
	return out, nil
}

// keepScript says what is staged, once it is on the disk, and removes packages of an
// earlier stage.
const keepScript = `set -e
cd "$stage"
find . -name '*.rpm' -type f | while read -r f; do
	case "
$files
" in *"
${f#./}
"*) ;; *) rm -f -- "$f" ;; esac
done
sync
printf '%s %s\n%s\n' "$answer" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$files" >staged.new
mv -f staged.new staged
sync -f staged 2>/dev/null || sync`

func (m stage) keep(ctx context.Context, s rollout.Step, d stageData, files []stagedFile) error {
	var paths []string
	for _, f := range files {
		paths = append(paths, f.path)
	}
	res, err := m.remote.Run(ctx, s.Host, sshexec.Command{
		Script: keepScript, Become: s.Become, Timeout: 2 * time.Minute, Env: map[string]string{
			"LC_ALL": "C", "stage": node.StageDir, "answer": d.Question + " " + withoutEpoch(d.Package).NEVRA(), "files": strings.Join(paths, "\n"),
		},
	})
	if err == nil && !res.OK() {
		err = fmt.Errorf("cannot write down in %s on %s what is staged: %s", node.StageDir, s.Host, res.Said())
	}
	return err
}

// noteStaged says that an install takes what is staged.
const noteStaged = "staged"

// forgetStaged leaves the packages, and has the next one ask the repositories.
func forgetStaged(ctx context.Context, r node.Remote, s rollout.Step) error {
	return removed(ctx, r, s, "rm", "-f", "--", node.StageDir+"/staged")
}

// unstage removes what is staged.
func unstage(ctx context.Context, r node.Remote, s rollout.Step) error {
	return removed(ctx, r, s, "rm", "-rf", "--", node.StageDir)
}

func removed(ctx context.Context, r node.Remote, s rollout.Step, argv ...string) error {
	res, err := run(ctx, r, s, 2*time.Minute, argv...)
	if err == nil && !res.OK() {
		err = fmt.Errorf("cannot remove %s on %s: %s", argv[len(argv)-1], s.Host, res.Said())
	}
	return err
}

// Undo removes what is staged, and what is half downloaded.
func (m stage) Undo(ctx context.Context, s rollout.Step) rollout.Outcome {
	f, err := node.GatherPackages(ctx, m.remote, s.Host, s.Become)
	if err != nil {
		return rollout.Fail(err)
	}
	if out, ok := waitForLock(s, f); !ok {
		return out
	}
	if err := unstage(ctx, m.remote, s); err != nil {
		return rollout.Fail(err)
	}
	return rollout.Did("removed %s", node.StageDir)
}
