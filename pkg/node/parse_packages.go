package node

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
)

// parseRPM reads the lines of packages; those of another shape say that one is not
// installed.
func parseRPM(text string) []Package {
	var out []Package
	for _, l := range lines(text) {
		if p, ok := ParsePackage(l); ok {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, byNEVRA)
	return slices.Compact(out)
}

// ParsePackage reads "NAME EPOCH VERSION RELEASE ARCH", as rpm is asked for it.
func ParsePackage(line string) (Package, bool) {
	w := strings.Fields(line)
	if len(w) != 5 || strings.Trim(w[1], "0123456789") != "" && w[1] != "(none)" {
		return Package{}, false
	}
	evr := w[2] + "-" + w[3]
	// An rpm that does not know EPOCHNUM prints (none).
	if w[1] != "0" && w[1] != "(none)" {
		evr = w[1] + ":" + evr
	}
	return Package{Name: w[0], EVR: evr, Arch: w[4]}, true
}

// brokenRPM tells a database that rpm cannot read from one that lacks packages:
// `rpm -q` ends with how many were not found, and says so of each, also where it
// could open nothing: then it says "error: " before. A node without rpm is no EL
// machine, and no broken one.
func brokenRPM(s section) error {
	missing, why := false, ""
	for _, l := range lines(s.text) {
		switch {
		case strings.HasSuffix(l, " is not installed"):
			missing = true
		case why == "" && strings.HasPrefix(l, "error: "):
			why = l
		}
	}
	killed := s.status >= 124 && s.status != 127
	if why == "" && !killed && (s.status == 0 || s.status == 127 || missing) {
		return nil
	}
	return broken("rpm -q", s, why, "rpm -qa >/dev/null; then as it says: rpm --rebuilddb; df -h /var; ps -ef | grep -e yum -e dnf -e rpm")
}

// broken says that a tool ended badly, in its own words: the line why, or the
// last one.
func broken(tool string, s section, why, hint string) error {
	if all := lines(strings.TrimSpace(s.text)); why == "" && len(all) > 0 {
		why = all[len(all)-1]
	}
	switch s.status {
	case 124, 137: // timeout's, by TERM and by KILL
		why = "no answer in time"
	}
	return &rollout.Problem{Message: fmt.Sprintf("%s ended with exit status %d: %s", tool, s.status, strings.TrimSpace(why)), Hint: hint}
}

func parseYum(s sections) PackageManager {
	var p PackageManager
	has := lines(s.text("tools"))
	switch {
	case slices.Contains(has, "dnf"):
		p.Tool = "dnf"
	case slices.Contains(has, "yum"):
		p.Tool = "yum"
	}
	// yum's and dnf's own default, for a configuration that does not say.
	p.InstallonlyLimit = 3
	conf := mainValues(s)
	if v := conf["installonly_limit"]; len(v) > 0 {
		p.InstallonlyLimit = number(v[0])
	}
	// The two files are one on EL8 and later, so every line is there twice.
	p.Excludes = append(conf["exclude"], conf["excludepkgs"]...)
	slices.Sort(p.Excludes)
	p.Excludes = slices.Compact(p.Excludes)
	for _, l := range lines(s.text("versionlock")) {
		if l = strings.TrimSpace(l); strings.Contains(l, "kernel") && !strings.HasPrefix(l, "#") && !strings.Contains(l, " ") {
			p.VersionLocks = append(p.VersionLocks, l)
		}
	}
	if holder := s.line("lock-holder"); holder != "" {
		pid, command, _ := strings.Cut(holder, " ")
		name, _, _ := strings.Cut(command, " ")
		p.LockHolder = name + " (pid " + pid + ")"
	}
	return p
}

// parseRepos reads the sections that the keys package=<name>@<repo> asked for.
func parseRepos(s sections, f *Facts) {
	for _, x := range s {
		kind, arg, _ := strings.Cut(x.name, " ")
		switch kind {
		case "package":
			name, repo, found := strings.Cut(arg, "@")
			if !found {
				continue
			}
			if f.Available == nil {
				f.Available = map[string][]Package{}
			}
			packages, why := ParseAvailable(x.text, x.status, name, repo)
			f.Available[arg] = packages
			if why == "" {
				continue
			}
			if f.RepoErrors == nil {
				f.RepoErrors = map[string]string{}
			}
			f.RepoErrors[repo] = why
		case "install":
			would, why := WouldInstall(x.text, x.status)
			if len(would) > 0 {
				if f.Transactions == nil {
					f.Transactions, f.Downloads = map[string][]PackageChange{}, map[string]int64{}
				}
				f.Transactions[arg], f.Downloads[arg] = would, DownloadSize(x.text)
			}
			if why == "" {
				continue
			}
			if f.InstallErrors == nil {
				f.InstallErrors = map[string]string{}
			}
			f.InstallErrors[arg] = why
		case "repo":
			if f.Repos == nil {
				f.Repos = map[string]Repo{}
			}
			f.Repos[arg] = parseRepo(x.text, s.text("repo-missing-keys "+arg), mainValues(s))
		}
	}
}

// ParseAvailable reads what `yum list [available] <name>` of yum 3 or dnf 4
// printed about one repository, and its exit status. why says why the
// repository could not be asked; a repository that has no such package has
// nothing available, and no why.
func ParseAvailable(said string, status int, name, repo string) (packages []Package, why string) {
	said = text.Printable(said)
	packages, listed := parseYumList(said, name, repo)
	if listed || status == 0 || nothingMatches(said) {
		return packages, ""
	}
	return nil, repoError(said, status)
}

// WouldInstall reads what `yum --assumeno install` of yum 3 or dnf 4 printed, and
// its exit status, which is 1 where all is well, too. It returns what would be
// done, or why nothing would be installed; neither if it is there already.
func WouldInstall(said string, status int) (would []PackageChange, why string) {
	said = text.Printable(said)
	if table, _, found := strings.Cut(said, "Transaction Summary"); found {
		return parseTransaction(table), ""
	}
	if strings.Contains(said, "Nothing to do") {
		return nil, ""
	}
	// What a package lacks stands below "Error:", on a line of its own.
	for _, mark := range []string{"nothing provides", "Requires: "} {
		for _, l := range lines(said) {
			if strings.Contains(l, mark) {
				return nil, strings.TrimLeft(strings.TrimSpace(l), "- ")
			}
		}
	}
	return nil, repoError(said, status)
}

var downloadSize = regexp.MustCompile(`(?m)^Total download size: ([0-9.]+) ?([kMG]?)\b`)

// DownloadSize reads out of the same text how much would be downloaded, in bytes; 0
// where yum has it all.
func DownloadSize(text string) int64 {
	m := downloadSize.FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	n, _ := strconv.ParseFloat(m[1], 64) // no number: 0
	return int64(n * map[string]float64{"": 1, "k": 1 << 10, "M": 1 << 20, "G": 1 << 30}[m[2]])
}

func parseStaged(line string) Staged {
	w := strings.Fields(line)
	if len(w) < 3 {
		return Staged{}
	}
	return Staged{Question: w[0], Package: w[1], Since: w[2], Asked: len(w) > 3}
}

// parseTransaction reads the table of a transaction: below a heading such as
// "Installing:", "Updating for dependencies:" (yum 3) or "Removing dependent
// packages:" (dnf 4) stand name, architecture and EVR of each package, and more
// behind. yum wraps a line whose columns are too wide, so words are counted and not
// lines. What dnf would skip is under a heading, too.
func parseTransaction(table string) []PackageChange {
	actions := map[string]string{"Installing": "install", "Updating": "upgrade", "Upgrading": "upgrade", "Downgrading": "downgrade", "Reinstalling": "reinstall", "Removing": "remove"}
	var out []PackageChange
	action := ""
	var words []string
	for _, l := range lines(table) {
		switch first, _, _ := strings.Cut(strings.TrimSuffix(l, ":"), " "); {
		case l == "" || l[0] == '=':
			continue
		case l[0] != ' ':
			action, words = "", nil
			if strings.HasSuffix(l, ":") {
				action = actions[first]
			}
			continue
		case action == "", strings.HasPrefix(l, "     replacing "):
			continue
		}
		words = append(words, strings.Fields(l)...)
		for i := 1; i+1 < len(words); i++ {
			if arch := words[i]; arch == "noarch" || arch == "x86_64" || arch == "i686" || arch == "aarch64" || arch == "ppc64le" || arch == "s390x" {
				out = append(out, PackageChange{Action: action, Package: Package{Name: words[i-1], EVR: strings.TrimPrefix(words[i+1], "0:"), Arch: arch}})
				words = words[i+2:]
				break
			}
		}
	}
	slices.SortFunc(out, func(a, b PackageChange) int {
		return cmp.Or(cmp.Compare(a.Action, b.Action), byNEVRA(a.Package, b.Package))
	})
	return out
}

// parseYumList: below a heading stand three words for each package, "name.arch
// EVR repository". yum wraps a line whose columns are too wide, so words are
// counted and not lines. An installed package is listed with "@repository" and
// is none that can be had.
func parseYumList(text, name, repo string) (packages []Package, listed bool) {
	var words []string
	for _, l := range lines(text) {
		switch strings.TrimSpace(l) {
		case "Available Packages", "Installed Packages":
			listed = true
			continue
		}
		if listed {
			words = append(words, strings.Fields(l)...)
		}
	}
	for len(words) >= 3 {
		full, evr, from := words[0], words[1], words[2]
		dot := strings.LastIndexByte(full, '.')
		if dot < 0 || full[:dot] != name {
			words = words[1:]
			continue
		}
		if from == repo {
			packages = append(packages, Package{Name: name, EVR: strings.TrimPrefix(evr, "0:"), Arch: full[dot+1:]})
		}
		words = words[3:]
	}
	slices.SortFunc(packages, byNEVRA)
	return slices.Compact(packages), listed
}

// nothingMatches tells a repository that answered and has no such package from
// one that did not answer; both end with status 1.
func nothingMatches(text string) bool {
	return strings.Contains(text, "No matching Packages to list") || strings.Contains(text, "No matching packages to list")
}

// repoError picks the line that names the cause out of what yum said. A yum
// that waited for another one did not wait for the repository.
func repoError(text string, status int) string {
	timedOut := status == 124 || status == 137 // timeout's, by TERM and by KILL
	marks := []string{"Existing lock", "holding the yum lock", "waiting for process with pid"}
	if !timedOut {
		marks = append(marks, "Error: ", "Error getting", "Cannot ", "failure: ", "Errno", "rror")
	}
	for _, mark := range marks {
		for _, l := range lines(text) {
			if strings.Contains(l, mark) {
				return strings.TrimSpace(l)
			}
		}
	}
	if timedOut {
		return "no answer within 150 s"
	}
	all := lines(strings.TrimSpace(text))
	if len(all) == 0 {
		return "yum ended without a word"
	}
	return strings.TrimSpace(all[len(all)-1])
}

// mainValues is [main] of yum's and dnf's configuration, without the stanzas of
// repositories that it may hold, too.
func mainValues(s sections) map[string][]string {
	var text strings.Builder
	main := false
	for _, l := range lines(s.text("yum-conf")) {
		if strings.HasPrefix(l, "[") {
			main = strings.HasPrefix(l, "[main]")
		} else if main {
			text.WriteString(l + "\n")
		}
	}
	return iniValues(text.String())
}

func parseRepo(stanza, missing string, inherited map[string][]string) Repo {
	conf := iniValues(stanza)
	if len(conf["gpgcheck"]) == 0 {
		conf["gpgcheck"] = inherited["gpgcheck"]
	}
	r := Repo{
		Enabled:  truth(conf["enabled"]),
		GPGCheck: truth(conf["gpgcheck"]),
		GPGKey:   strings.Join(conf["gpgkey"], " "),
		Excludes: append(conf["exclude"], conf["excludepkgs"]...),
	}
	for _, l := range lines(missing) {
		if strings.HasPrefix(l, "/") {
			r.MissingKeys = append(r.MissingKeys, l)
		}
	}
	return r
}

// iniValues reads the assignments of a yum configuration, values split at
// spaces and commas. A line that begins with a space goes on with the value
// before it.
func iniValues(text string) map[string][]string {
	out := map[string][]string{}
	key := ""
	for _, l := range lines(text) {
		trimmed := strings.TrimSpace(l)
		if trimmed == "" || strings.HasPrefix(trimmed, "#") || strings.HasPrefix(trimmed, ";") {
			continue
		}
		value := trimmed
		if l[0] != ' ' && l[0] != '\t' {
			name, v, found := strings.Cut(trimmed, "=")
			if !found {
				key = ""
				continue
			}
			key, value = strings.TrimSpace(name), v
		}
		if key != "" {
			out[key] = append(out[key], strings.FieldsFunc(value, func(c rune) bool { return c == ' ' || c == ',' || c == '\t' })...)
		}
	}
	return out
}

// truth is the last of the values: a file that is read twice has them twice.
func truth(v []string) bool {
	return len(v) > 0 && slices.Contains([]string{"1", "yes", "true", "on", "enabled"}, strings.ToLower(v[len(v)-1]))
}
