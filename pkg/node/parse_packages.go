package node

import (
	"slices"
	"strings"
)

// parseRPM reads "NAME EPOCH VERSION RELEASE ARCH"; lines of another shape say
// that a package is not installed.
func parseRPM(text string) []Package {
	var out []Package
	for _, l := range lines(text) {
		w := strings.Fields(l)
		if len(w) != 5 || w[0] == "package" {
			continue
		}
		evr := w[2] + "-" + w[3]
		// An rpm that does not know EPOCHNUM prints (none).
		if w[1] != "0" && w[1] != "(none)" {
			evr = w[1] + ":" + evr
		}
		out = append(out, Package{Name: w[0], EVR: evr, Arch: w[4]})
	}
	slices.SortFunc(out, byNEVRA)
	return slices.Compact(out)
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
	conf := iniValues(s.text("yum-conf"))
	if v := conf["installonly_limit"]; len(v) > 0 {
		p.InstallonlyLimit = number(v[0])
	}
	// The two files are one on EL8 and later, so every line is there twice.
	p.Excludes = append(conf["exclude"], conf["excludepkgs"]...)
	slices.Sort(p.Excludes)
	p.Excludes = slices.Compact(p.Excludes)
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
			packages, ok := parseYumList(x.text, name, repo)
			f.Available[arg] = packages
			if ok || x.status == 0 || nothingMatches(x.text) {
				continue
			}
			if f.RepoErrors == nil {
				f.RepoErrors = map[string]string{}
			}
			f.RepoErrors[repo] = repoError(x)
		case "repo":
			if f.Repos == nil {
				f.Repos = map[string]Repo{}
			}
			f.Repos[arg] = parseRepo(x.text, s.text("repo-missing-keys "+arg))
		}
	}
}

// parseYumList reads `yum list` of yum 3 and dnf 4: below a heading, three
// words for each package, "name.arch EVR repository". yum wraps a line whose
// columns are too wide, so words are counted and not lines. An installed
// package is listed with "@repository" and is none that can be had.
func parseYumList(text, name, repo string) (packages []Package, found bool) {
	var words []string
	on := false
	for _, l := range lines(text) {
		switch strings.TrimSpace(l) {
		case "Available Packages", "Installed Packages":
			on, found = true, true
			continue
		}
		if on {
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
	return slices.Compact(packages), found
}

// nothingMatches tells a repository that answered and has no such package from
// one that did not answer; both end with status 1.
func nothingMatches(text string) bool {
	return strings.Contains(text, "No matching Packages to list") || strings.Contains(text, "No matching packages to list")
}

// repoError picks the line that names the cause out of what yum said.
func repoError(x section) string {
	if x.status == 124 || x.status == 137 {
		return "no answer within 90 s"
	}
	for _, mark := range []string{"Error: ", "Cannot ", "Errno", "rror"} {
		for _, l := range lines(x.text) {
			if strings.Contains(l, mark) {
				return strings.TrimSpace(l)
			}
		}
	}
	all := lines(strings.TrimSpace(x.text))
	if len(all) == 0 {
		return "yum ended without a word"
	}
	return strings.TrimSpace(all[len(all)-1])
}

func parseRepo(stanza, missing string) Repo {
	conf := iniValues(stanza)
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

func truth(v []string) bool {
	return len(v) == 1 && slices.Contains([]string{"1", "yes", "true", "on", "enabled"}, strings.ToLower(v[0]))
}
