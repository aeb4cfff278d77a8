package kernel

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

func stringArg(args rollout.Args, name, dflt string) (string, error) {
	switch v := args[name].(type) {
	case nil:
		return dflt, nil
	case string:
		if strings.TrimSpace(v) == "" {
			return dflt, nil
		}
		return strings.TrimSpace(v), nil
	case int64, float64:
		// YAML reads an unquoted 6.1 as a number; 6.10 is lost by then, so the
		// number is refused and not printed back as 6.1.
		return "", fmt.Errorf("%s: %v is a number; put it in quotes", name, v)
	default:
		return "", fmt.Errorf("%s: %v is not a string", name, v)
	}
}

func stringsArg(args rollout.Args, name string) ([]string, error) {
	switch v := args[name].(type) {
	case nil:
		return nil, nil
	case string:
		return []string{v}, nil
	case []string:
		return v, nil
	case []any:
		var out []string
		for _, x := range v {
			s, ok := x.(string)
			if !ok {
				return nil, fmt.Errorf("%s: %v is not a string", name, x)
			}
			out = append(out, s)
		}
		return out, nil
	default:
		return nil, fmt.Errorf("%s: %v is not a list of strings", name, v)
	}
}

func durationArg(args rollout.Args, name string, dflt time.Duration) (time.Duration, error) {
	s, err := stringArg(args, name, dflt.String())
	if err != nil {
		return 0, err
	}
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

func wantedArgs(args rollout.Args) (w Wanted, err error) {
	for _, a := range []struct {
		to         *string
		name, dflt string
	}{
		{&w.Name, "name", "kernel-ml"}, {&w.Version, "version", Latest},
		{&w.Repo, "enablerepo", "elrepo-kernel"}, {&w.Minimum, "minimum", ""},
	} {
		if *a.to, err = stringArg(args, a.name, a.dflt); err != nil {
			return w, err
		}
	}
	w.RetryFailed, _ = args["retry_failed"].(bool) // the compiler lets nothing else through
	return w, nil
}

// packageReads asks for the base facts, for what the repository has, and for what
// yum would do with it.
func packageReads(args rollout.Args) []rollout.Read {
	reads := []rollout.Read{{Section: node.Section.Name()}}
	if w, err := wantedArgs(args); err == nil {
		for _, key := range []string{node.PackageKey(w.Name, w.Repo), node.InstallKey(w.spec(), w.Repo)} {
			reads = append(reads, rollout.Read{Section: node.Section.Name(), Key: key})
		}
	}
	return reads
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

func megabytes(n int64) string { return strconv.FormatInt(n>>20, 10) + " MB" }

// matchGlob is yum's match of an exclude pattern against a package name.
func matchGlob(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}
