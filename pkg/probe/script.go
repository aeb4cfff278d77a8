package probe

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"time"
)

var (
	//go:embed loop.sh
	loopScript string
	//go:embed start.sh
	startScript string
	//go:embed look.sh
	lookScript string
)

const (
	// nodeDir is where a node keeps what came of the questions: in memory, gone with
	// a reboot.
	nodeDir = "/run/fleetd-probe"
	// soonest is the shortest time between two questions on one path.
	soonest = 500 * time.Millisecond
	// perSecond bounds how often all machines together ask one Service: three
	// hundred nodes must not be a load to its pods.
	perSecond = 100
	// answerTime is how long an answer may take, at most.
	answerTime = 2 * time.Second
)

// Interval is the time between two questions on one path, where so many machines
// ask.
func Interval(machines int) time.Duration {
	return max(soonest, time.Duration(machines)*time.Second/perSecond)
}

// Lease is how long machines go on when nobody comes back. A roll over many nodes
// takes its time.
func Lease(machines int) time.Duration { return time.Hour + time.Duration(machines)*time.Minute }

// Script is a shell script with its environment.
type Script struct {
	Text string
	Env  map[string]string
	// Root is set where it has to be run as root.
	Root bool
	// Takes bounds how long it may take.
	Takes time.Duration
}

// scriptTakes is how long a script may take that waits for nothing.
const scriptTakes = 30 * time.Second

// Start begins to ask for the paths. bastion is set for the machine that fleetd is
// on, where it is not root.
func Start(bastion bool, paths []Path, machines int) Script {
	lines := make([]string, len(paths))
	for i, p := range paths {
		lines[i] = p.line()
	}
	s := script(bastion, startScript)
	s.Env["loop"], s.Env["paths"] = loopScript, strings.Join(lines, "\n")
	s.Env["interval"], s.Env["lease"] = seconds(Interval(machines)), ms(Lease(machines))
	return s
}

// Look reads what came of it until now, and has the machine go on. With mark the
// counts begin anew, and those of before are what the data plane is held against.
func Look(bastion, mark bool, machines int) Script {
	s := script(bastion, lookScript)
	s.Env["lease"], s.Env["mark"], s.Env["rules"], s.Env["stop"] = ms(Lease(machines)), "", "", ""
	if mark {
		s.Env["mark"] = "yes"
	}
	if !bastion && !mark {
		window := Interval(machines) + answerTime
		s.Env["rules"] = seconds(window)
		s.Takes += window
	}
	return s
}

// Stop is the last look.
func Stop(bastion bool) Script {
	s := script(bastion, lookScript)
	s.Env["lease"], s.Env["mark"], s.Env["rules"], s.Env["stop"] = "", "", "", "yes"
	return s
}

func script(bastion bool, text string) Script {
	s := Script{Text: text, Root: !bastion, Takes: scriptTakes, Env: map[string]string{"LC_ALL": "C", "dir": nodeDir}}
	if bastion {
		s.Env["dir"] = ""
	}
	return s
}

func ms(d time.Duration) string      { return strconv.FormatInt(d.Milliseconds(), 10) }
func seconds(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()) }
