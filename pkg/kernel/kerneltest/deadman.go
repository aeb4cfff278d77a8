package kerneltest

import (
	"regexp"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/node"
)

// trialUnit is the unit of a dead-man switch.
const trialUnit = "fleetd-trial.service"

// unit is its file, for which trial, and whether systemd has started it on this
// boot. What is written into it is not looked at beyond its condition: that a real
// systemd starts it, leaves it alone on its way to emergency.target and reboots is
// shown on the lab's machines.
type unit struct {
	run   string
	works bool
	left  int
	// jumpy: the kernel was booted with a trial's arguments, and panics as they say.
	jumpy bool
}

var unitCondition = regexp.MustCompile(`(?m)^ConditionKernelCommandLine=` + regexp.QuoteMeta(node.TrialArg) + `(.+)$`)

// startUnit is systemd on a boot of this entry.
func (n *Node) startUnit(e node.BootEntry) {
	n.unit.works = n.unit.run != "" && e.TrialRun() == n.unit.run
	n.unit.left = n.behaviour.DeadManTakes
	n.unit.jumpy = e.TrialRun() != ""
}

// deadMan is the script that writes the unit, or, without a text, the one that
// stops it and removes it.
func (n *Node) deadMan(text string) string {
	if text != "" {
		wants := "Wants=systemd-journald.service " + trialUnit + "\n"
		if n.behaviour.DeadManIgnored {
			return "LoadState=error\n" + wants + wants
		}
		n.unit.run = unitCondition.FindStringSubmatch(text)[1]
		return "LoadState=loaded\n" + wants + wants
	}
	out := ""
	if n.unit.run != "" {
		out, n.unit.jumpy = "there\n", false
	}
	if n.unit.run = ""; !n.behaviour.DeadManStays {
		n.unit.works = false
	}
	if n.unit.works {
		return out + "ActiveState=active\n"
	}
	return out + "ActiveState=inactive\n"
}

// recordFailed is the script that keeps, or without a run forgets, that a kernel
// failed a trial. The node's clock stands still.
func (n *Node) recordFailed(release, run string) {
	switch {
	case run == "":
		n.failed = slices.DeleteFunc(n.failed, func(l string) bool { return strings.HasPrefix(l, release+" ") })
	case !slices.ContainsFunc(n.failed, func(l string) bool { return strings.Contains(l, " "+run+" ") }):
		n.failed = append(n.failed, release+" "+run+" 2026-03-01T02:00:00Z")
	}
}
