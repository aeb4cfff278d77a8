package cluster

import "strings"

// CordonedByAnnotation marks a Node that fleetd cordoned, so that it takes back
// its own cordons and nobody else's, also after a crash. Its value is who did it,
// where, and in which run: "alice@bastion1 20261126-190445-3f2a".
const CordonedByAnnotation = "fleetd.io/cordoned-by"

// BeforeAnnotation is how the pods that stay on a node were when its drain began
// (see [health]). It goes with the mark.
const BeforeAnnotation = "fleetd.io/before-drain"

// cordonedByFleetd is the mark of a fleetd that does not know who runs it.
const cordonedByFleetd = "fleetd"

// Cordon is whether a node takes no new pods, and whose word that is.
type Cordon struct {
	On bool `json:"on,omitempty"`
	// By is the value of CordonedByAnnotation, which may outlive the cordon. ""
	// on a cordoned node: somebody else's.
	By string `json:"by,omitempty"`
	// Elsewhere is set where the mark is of a fleetd on another machine. That one
	// has the journal of what it did to the node, and this one has not.
	Elsewhere bool `json:"elsewhere,omitempty"`
}

// Ours reports whether fleetd cordoned the node, from this machine.
func (c Cordon) Ours() bool { return c.On && c.By != "" && !c.Elsewhere }

// Foreign reports whether somebody else did.
func (c Cordon) Foreign() bool { return c.On && !c.Ours() }

// whose says who cordoned a node that is foreign.
func (c Cordon) whose() string {
	if c.Elsewhere {
		return "fleetd elsewhere (" + c.By + ")"
	}
	return "somebody else"
}

// signature is who writes marks, and in which run.
type signature struct {
	// holder is "alice@bastion1"; "" is not known.
	holder, run string
}

// mark is the value of CordonedByAnnotation for a cordon of this run.
func (s signature) mark() string {
	if s.holder == "" {
		return cordonedByFleetd
	}
	return strings.TrimSpace(s.holder + " " + s.run)
}

// elsewhere reports whether a mark was made on another machine. A mark that does
// not say where, as fleetd once wrote them, counts as made here.
func (s signature) elsewhere(mark string) bool {
	here, there := machineOf(s.holder), machineOf(mark)
	return here != "" && there != "" && here != there
}

// machineOf is the machine in "alice@bastion1 run", "" if there is none.
func machineOf(mark string) string {
	who, _, _ := strings.Cut(mark, " ")
	_, machine, _ := strings.Cut(who, "@") // no user name has one
	return machine
}
