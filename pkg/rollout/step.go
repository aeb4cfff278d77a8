package rollout

import (
	"fmt"
	"strings"
	"time"
)

// StepID names one task of one play on one host. Play and Task count from 0.
type StepID struct {
	Play int    `json:"play"`
	Task int    `json:"task"`
	Host string `json:"host"`
}

func (id StepID) String() string { return fmt.Sprintf("%d.%d@%s", id.Play+1, id.Task+1, id.Host) }

// Step is what a module gets when it is asked to act: plain data.
type Step struct {
	ID     StepID
	Host   string
	Change Change
	Become bool
	// BecomeAs is whom to become, and how; what is empty is the host's own setting.
	BecomeAs BecomeAs
	// Attempt counts the starts of the step, from 1. The calls that an intention
	// asks for belong to the same attempt.
	Attempt int
	// Now is the run's clock: how long fleetd has worked at this run. It does not
	// go on while no fleetd does, and no clock of a machine moves it. Notes that
	// hold a time hold this one.
	Now time.Duration
	// Elapsed is how long this step has been under way, by the run's clock. A
	// step that waits measures its timeout by it.
	Elapsed time.Duration
	// SoFar are the notes of earlier calls of the same step, also of those before
	// a crash.
	SoFar map[string]string
}

// Since is how long ago a time was noted; the step's own age where none was.
func (s Step) Since(note string) time.Duration {
	at, err := time.ParseDuration(s.SoFar[note])
	if err != nil {
		return s.Elapsed
	}
	return s.Now - at
}

// Item is the number of the item of a loop that is done, from 0: so many have ended.
func (s Step) Item() (n int) {
	for name := range s.SoFar {
		if strings.HasPrefix(name, ItemNotes) {
			n++
		}
	}
	return n
}

// BecomeAs is how a step becomes another user, where a playbook says it: the words of
// Ansible's become_user, become_method, become_exe and become_flags.
type BecomeAs struct {
	User   string `json:"user,omitempty"`
	Method string `json:"method,omitempty"`
	Exe    string `json:"exe,omitempty"`
	Flags  string `json:"flags,omitempty"`
}
