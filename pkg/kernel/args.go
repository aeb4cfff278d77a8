package kernel

import (
	"cmp"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// Whoever hands arguments over has held them against Params: what is there has its type.

func stringArg(args rollout.Args, name, dflt string) string {
	s, _ := args[name].(string)
	return cmp.Or(strings.TrimSpace(s), dflt)
}

func stringsArg(args rollout.Args, name string) (out []string) {
	list, _ := args[name].([]any)
	for _, x := range list {
		s, _ := x.(string)
		out = append(out, s)
	}
	return out
}

func durationArg(args rollout.Args, name string, dflt time.Duration) (time.Duration, error) {
	s := stringArg(args, name, dflt.String())
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%s: %q is no duration such as 10m", name, s)
	}
	return d, nil
}

// wantedParams are those of every module that has to know which kernel.
func wantedParams(more rollout.Params) rollout.Params {
	p := rollout.Params{
		"name":       {Type: rollout.String, Help: "package of the kernel (default kernel-ml)"},
		"version":    {Type: rollout.String, Help: "latest (default), or a version or EVR to pin, in quotes"},
		"enablerepo": {Type: rollout.String, Help: "repository it comes from (default elrepo-kernel)"},
		"minimum":    {Type: rollout.String, Help: "oldest version that will do, such as \"5.10\""},

		"retry_failed": {Type: rollout.Bool, Help: "try a version again that failed a trial on the node (default false)"},
	}
	for k, v := range more {
		p[k] = v
	}
	return p
}

func wantedArgs(args rollout.Args) Wanted {
	retry, _ := args["retry_failed"].(bool)
	return Wanted{
		Name: stringArg(args, "name", "kernel-ml"), Version: stringArg(args, "version", Latest),
		Repo: stringArg(args, "enablerepo", "elrepo-kernel"), Minimum: stringArg(args, "minimum", ""),
		RetryFailed: retry,
	}
}

// packageReads asks for the base facts, for what the repository has, and for what
// yum would do with it.
func packageReads(args rollout.Args) []rollout.Read {
	w, section := wantedArgs(args), node.Section.Name()
	return []rollout.Read{{Section: section}, {Section: section, Key: node.PackageKey(w.Name, w.Repo)}, {Section: section, Key: node.InstallKey(w.spec(), w.Repo)}}
}

// parseSize reads "150M", "1G", "2048K" or a number of bytes, in powers of 1024.
func parseSize(s string) (int64, error) {
	digits, factor := strings.TrimSpace(s), int64(1)
	upper := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(digits), "B"), "I")
	for suffix, f := range map[string]int64{"K": 1 << 10, "M": 1 << 20, "G": 1 << 30} {
		if rest, found := strings.CutSuffix(upper, suffix); found {
			upper, factor = rest, f
			break
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(upper), 10, 64)
	if err != nil || n < 0 || n > (1<<50)/factor {
		return 0, fmt.Errorf("%q is no size such as 150M", s)
	}
	return n * factor, nil
}

// matchGlob is yum's match of an exclude pattern against a package name.
func matchGlob(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}
