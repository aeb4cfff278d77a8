package wanted

import (
	"path"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// Params are those of every module that has to know which kernel.
func Params(more rollout.Params) rollout.Params {
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

func Args(args rollout.Args) Kernel {
	retry, _ := args["retry_failed"].(bool)
	return Kernel{
		Name: args.String("name", "kernel-ml"), Version: args.String("version", Latest),
		Repo: args.String("enablerepo", "elrepo-kernel"), Minimum: args.String("minimum", ""),
		RetryFailed: retry,
	}
}

// Reads asks for the base facts, for what the repository has, and for what
// yum would do with it.
func Reads(args rollout.Args) []rollout.Read {
	w, section := Args(args), node.Section.Name()
	return []rollout.Read{{Section: section}, {Section: section, Key: node.PackageKey(w.Name, w.Repo)}, {Section: section, Key: node.InstallKey(w.spec(), w.Repo)}}
}

// matchGlob is yum's match of an exclude pattern against a package name.
func matchGlob(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}
