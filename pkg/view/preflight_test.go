package view

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// TestPreflight shows a fleet in which some have one trouble, some several, and some
// none.
func TestPreflight(t *testing.T) {
	p := fleet()
	check := p.Plays[0].Tasks[0]
	for i := range 20 {
		h := fmt.Sprintf("worker%02d", i+1)
		parts := []rollout.Problem{{Message: fmt.Sprintf("/boot has %d MB free, and the kernel needs 149 MB", i), Hint: "remove an old kernel: dnf remove --oldinstallonly [boot_free]"}}
		if i < 2 || i == 7 {
			parts = append(parts, rollout.Problem{Message: "Secure Boot is on, and the firmware refuses ELRepo's kernels", Hint: "turn it off\nor sign them [secure_boot]"})
		}
		for _, task := range p.Plays[0].Tasks {
			delete(task.Steps, h)
		}
		check.Steps[h] = rollout.PlannedStep{Problem: &rollout.Problem{Message: "cannot change the kernel", Parts: parts}}
	}
	check.Steps["n7"] = rollout.PlannedStep{Problem: &rollout.Problem{Message: "cannot read the facts: cannot connect to n7: \x1b[2J no route to host", Unreachable: true}}
	for _, h := range []string{"worker27", "worker28"} {
		s := check.Steps[h]
		s.Change.Risks = []string{"crashkernel=auto means nothing to a mainline kernel"}
		check.Steps[h] = s
	}
	var out bytes.Buffer
	Preflight(&out, Style{}, &p)
	golden(t, "preflight.txt", out.Bytes())
	p = fleet()
	out.Reset()
	Preflight(&out, Style{}, &p)
	golden(t, "preflight-fit.txt", out.Bytes())
}
