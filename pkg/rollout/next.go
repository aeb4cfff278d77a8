package rollout

import (
	"fmt"
	"strings"
	"time"
)

// Verdict is what a run should do now.
type Verdict string

const (
	// Proceed: start the ready steps, if any, and ask again when something
	// happened or at Wake.
	Proceed Verdict = "proceed"
	// Finish: every step is over.
	Finish Verdict = "finish"
	// Stop: a gate says that the run must not go on.
	Stop Verdict = "stop"
)

// Decision is the answer of Next.
type Decision struct {
	Verdict Verdict
	Ready   []StepID
	// Wake is when the earliest waiting step may be asked again; zero if none.
	Wake time.Time
	// Halt says why, with Stop.
	Halt *Halt
}

// Next decides which steps may start at the time now. It changes nothing.
//
// The rules:
//   - plays go one after the other, and so do the batches of a play;
//   - the gate of a batch is judged when all its hosts are through or lost, so
//     that no host is left drained or half changed because another one failed;
//   - a host that failed takes no further part;
//   - under strategy linear no host starts a task before all others of the
//     batch have finished the one before;
//   - no more steps run at once than there are forks;
//   - of the control plane at most one host is disrupted at a time, and none
//     after one was lost.
func Next(r *Run, now time.Time) Decision {
	for pi := range r.Plan.Plays {
		for bi := range r.Plan.Plays[pi].Batches {
			if r.open[pi][bi] > 0 {
				return r.within(pi, bi, now)
			}
			if h := r.gate(pi, bi); h != nil {
				if r.running > 0 {
					return Decision{Verdict: Proceed}
				}
				return Decision{Verdict: Stop, Halt: h}
			}
		}
	}
	if r.running > 0 {
		return Decision{Verdict: Proceed}
	}
	return Decision{Verdict: Finish}
}

// within decides for the batch that is being worked on.
func (r *Run) within(pi, bi int, now time.Time) Decision {
	play := r.Plan.Plays[pi]
	if play.AnyErrorsFatal {
		if h := r.gate(pi, bi); h != nil {
			if r.running > 0 {
				return Decision{Verdict: Proceed}
			}
			return Decision{Verdict: Stop, Halt: h}
		}
	}
	d := Decision{Verdict: Proceed}
	var withheld []string // control-plane hosts that wait for another one
	disrupted := r.disruptedControlPlane(pi)
	for _, id := range r.candidates(pi, bi) {
		st := r.steps[id]
		switch {
		case st != nil && st.Active:
			continue
		case st != nil && st.NotBefore.After(now):
			if d.Wake.IsZero() || st.NotBefore.Before(d.Wake) {
				d.Wake = st.NotBefore
			}
			continue
		}
		if r.disrupts(id) {
			if disrupted != "" && disrupted != id.Host {
				withheld = append(withheld, id.Host)
				continue
			}
			disrupted = id.Host
		}
		if r.Forks == 0 || r.running+len(d.Ready) < r.Forks {
			d.Ready = append(d.Ready, id)
		}
	}
	if len(withheld) > 0 && len(d.Ready) == 0 && r.running == 0 && d.Wake.IsZero() {
		return Decision{Verdict: Stop, Halt: &Halt{Play: pi, Batch: bi, Hosts: []string{disrupted}, Reason: fmt.Sprintf(
			"control-plane host %s was lost while it was out of service; taking down %s as well could cost the quorum",
			disrupted, strings.Join(withheld, ", "))}}
	}
	return d
}

// candidates are the next open steps of the hosts of a batch, in host order.
func (r *Run) candidates(pi, bi int) []StepID {
	play := r.Plan.Plays[pi]
	var out []StepID
	lowest := len(play.Tasks)
	for _, h := range play.Batches[bi] {
		if _, lost := r.lost[h]; lost {
			continue
		}
		for ti := range play.Tasks {
			id := StepID{pi, ti, h}
			planned, ok := play.Tasks[ti].Steps[h]
			if !ok || !counts(planned) {
				continue
			}
			if st := r.steps[id]; st == nil || !st.Over() {
				out = append(out, id)
				lowest = min(lowest, ti)
				break
			}
		}
	}
	if play.Strategy != Linear {
		return out
	}
	first := out[:0]
	for _, id := range out {
		if id.Task == lowest {
			first = append(first, id)
		}
	}
	return first
}

// gate judges a batch by its lost hosts. nil lets the run go on.
func (r *Run) gate(pi, bi int) *Halt {
	play := r.Plan.Plays[pi]
	var lost []string
	size := 0
	for _, h := range play.Batches[bi] {
		id, ok := r.lost[h]
		if ok && (id.Play < pi) {
			continue // it was not there when the batch began
		}
		size++
		if ok && id.Play == pi {
			lost = append(lost, h)
		}
	}
	if len(lost) == 0 {
		return nil
	}
	share := 100 * float64(len(lost)) / float64(size)
	var why string
	switch {
	case play.AnyErrorsFatal:
		why = "any_errors_fatal is set"
	case play.MaxFailPercentage != nil && share > *play.MaxFailPercentage:
		why = fmt.Sprintf("max_fail_percentage is %g", *play.MaxFailPercentage)
	case play.MaxFailPercentage == nil && len(lost) == size:
		why = "no host of the batch is left"
	default:
		return nil
	}
	return &Halt{Play: pi, Batch: bi, Hosts: lost, Reason: fmt.Sprintf("%d of %d hosts of batch %d failed, and %s", len(lost), size, bi+1, why)}
}

// disrupts reports whether the step takes a control-plane host out of service.
func (r *Run) disrupts(id StepID) bool {
	s, _ := r.Plan.Step(id)
	return s.Change.Disruptive && r.Plan.IsControlPlane(id.Host)
}

// disruptedControlPlane is the control-plane host that is out of service: one
// that has begun a disruptive step of this play and is not through with the
// play, or one that was lost during such a step in any play. Empty if none.
func (r *Run) disruptedControlPlane(pi int) string {
	for _, h := range r.Plan.ControlPlane {
		if id, lost := r.lost[h]; lost {
			if r.begunDisruption(id.Play, h) {
				return h
			}
			continue
		}
		if r.begunDisruption(pi, h) && !r.through(pi, h) {
			return h
		}
	}
	return ""
}

func (r *Run) begunDisruption(pi int, host string) bool {
	for ti := range r.Plan.Plays[pi].Tasks {
		id := StepID{pi, ti, host}
		if r.steps[id] != nil && r.disrupts(id) {
			return true
		}
	}
	return false
}

func (r *Run) through(pi int, host string) bool {
	for ti := range r.Plan.Plays[pi].Tasks {
		id := StepID{pi, ti, host}
		if s, ok := r.Plan.Step(id); ok && counts(s) && (r.steps[id] == nil || !r.steps[id].Over()) {
			return false
		}
	}
	return true
}
