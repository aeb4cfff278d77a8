package kerneltest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/node"
)

// staged is yum's cache of its own for a later install.
type staged struct {
	// repo is the repository's metadata as it was, files are the packages that are
	// there.
	repo, files []node.Package
	// answer is the first line of the note about it, "" for none.
	answer string
}

// stageScript is the script that looks at the files, or the one that notes that they
// are good.
func (n *Node) stageScript(answer string) string {
	if answer != "" {
		n.staged.answer = answer + " 2026-11-27T06:00:00Z"
		return ""
	}
	var b strings.Builder
	for _, p := range n.staged.files {
		v, r, _ := strings.Cut(p.EVR, "-")
		verdict := "OK"
		if p.Name == n.behaviour.Rotten {
			verdict = "BAD"
		}
		fmt.Fprintf(&b, "file ./elrepo-kernel-1b2c/packages/%[1]s.rpm\npackage %[2]s 0 %[3]s %[4]s %[5]s\n./elrepo-kernel-1b2c/packages/%[1]s.rpm:\n"+
			"    Header V4 RSA/SHA256 Signature, key ID baadae52: %[6]s\n    Header SHA256 digest: OK\n    MD5 digest: OK\n", p.NEVRA(), p.Name, v, r, p.Arch, verdict)
	}
	return b.String()
}

// stagedFacts is what the facts script says of it, as long as it is not installed.
func (n *Node) stagedFacts() string {
	w := strings.Fields(n.staged.answer)
	if len(w) == 0 || slices.ContainsFunc(n.packages, func(p node.Package) bool { return p.NEVRA() == w[1] }) {
		return ""
	}
	return n.staged.answer
}
