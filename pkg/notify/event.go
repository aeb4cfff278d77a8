// Package notify tells others what has happened, by webhook: [Event] is what, [Webhook]
// to whom and in which form. When, and that none is lost, is for who calls it.
package notify

import (
	"strings"
	"time"
)

// Kind is what has happened.
type Kind string

const (
	RunStarted       Kind = "run.started"
	RunResumed       Kind = "run.resumed"
	RunHalted        Kind = "run.halted"
	RunInterrupted   Kind = "run.interrupted" // paused, by Ctrl-C, or its fleetd died
	RunDone          Kind = "run.done"
	NodeLost         Kind = "node.lost"
	ComplianceWorse  Kind = "compliance.worse"
	ComplianceBetter Kind = "compliance.better"
	LookFailed       Kind = "compliance.failed" // a fleet could not be looked at
	PlanWaiting      Kind = "plan.waiting"      // for somebody's approval
)

// Kinds are all of them.
func Kinds() []Kind {
	return []Kind{RunStarted, RunResumed, RunHalted, RunInterrupted, RunDone, NodeLost, ComplianceWorse, ComplianceBetter, LookFailed, PlanWaiting}
}

// Event is what a template is given. It holds names and numbers of fleetd's own: no
// output of a command, no variable and no line of a file, for whoever reads a channel
// may not be one who may read those.
type Event struct {
	// ID is the same when it is sent again.
	ID   string    `json:"id"`
	Kind Kind      `json:"event"`
	At   time.Time `json:"at"`
	// Severity is info, warning or critical.
	Severity string `json:"severity"`
	// Title is one line for a person.
	Title string `json:"title"`
	// Run is the run that it is about, Fleet the fleet: at most one of them is set.
	Run   string `json:"run,omitempty"`
	Fleet string `json:"fleet,omitempty"`
	// Hosts are those that it is about, at most MostHosts of HostCount.
	Hosts     []string `json:"hosts,omitempty"`
	HostCount int      `json:"host_count,omitempty"`
	// See is the command that shows more, on the bastion.
	See string `json:"see"`
}

// MostHosts is how many hosts an event names.
const MostHosts = 50

// About sets the hosts.
func (e Event) About(hosts []string) Event {
	e.Hosts, e.HostCount = hosts[:min(len(hosts), MostHosts)], len(hosts)
	return e
}

// severities of the kinds that do not differ from time to time.
var severities = map[Kind]string{
	RunStarted: "info", RunResumed: "info", RunHalted: "critical", RunInterrupted: "warning", NodeLost: "critical",
	ComplianceWorse: "warning", ComplianceBetter: "info", LookFailed: "warning", PlanWaiting: "info",
}

// New is an event of a kind. A run that is done is of severity info; who knows that it
// lost hosts says otherwise.
func New(kind Kind, id string, at time.Time, title, see string) Event {
	e := Event{ID: id, Kind: kind, At: at.UTC(), Severity: severities[kind], Title: title, See: see}
	if e.Severity == "" {
		e.Severity = "info"
	}
	return e
}

// alert is the kind as alerts are named: FleetdRunHalted.
func (k Kind) alert() string {
	name := "Fleetd"
	for word := range strings.SplitSeq(string(k), ".") {
		name += strings.ToUpper(word[:1]) + word[1:]
	}
	return name
}

// samples are events as they come, one of each kind: what a template is tried on.
func samples() (out []Event) {
	at := time.Date(2026, 11, 27, 2, 10, 0, 0, time.UTC)
	for _, k := range Kinds() {
		e := New(k, "sample/1", at, `Run 20261127-021000-abcd: "a" & <b>`, "fleetd runs show 20261127-021000-abcd")
		switch k {
		case ComplianceWorse, ComplianceBetter, LookFailed:
			e.Fleet = "prod"
		case PlanWaiting:
		default:
			e.Run = "20261127-021000-abcd"
		}
		if k == NodeLost || k == ComplianceWorse {
			e = e.About([]string{"worker01", "worker02"})
		}
		out = append(out, e)
	}
	return out
}
