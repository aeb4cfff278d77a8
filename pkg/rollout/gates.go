package rollout

import (
	"fmt"
	"slices"
	"strings"
)

// gate judges the batch that is worked on by its lost hosts. nil lets the run go
// on.
func (r *Run) gate() *Halt {
	w := &r.work
	lost, size := w.lost[w.play][w.batch], w.size[w.play][w.batch]
	if lost == 0 {
		return nil
	}
	if lost <= r.passed[batchID{w.play, w.batch}] {
		return nil // somebody has seen these and went on
	}
	play := &r.Plan.Plays[w.play]
	share := 100 * float64(lost) / float64(size)
	var why string
	switch {
	case r.fatal():
		why = "any_errors_fatal is set"
	case play.MaxFailPercentage != nil && share > *play.MaxFailPercentage:
		why = fmt.Sprintf("max_fail_percentage is %g", *play.MaxFailPercentage)
	case play.MaxFailPercentage == nil && lost == size:
		why = "no host of the batch is left"
	default:
		return nil
	}
	return &Halt{Gate: true, Reason: fmt.Sprintf("%d of %d hosts of batch %d failed, and %s", lost, size, w.batch+1, why)}
}

// fatal reports whether the batch that is worked on lost a host of which none may
// be: no other step of it begins.
func (r *Run) fatal() bool { return r.work.fatal[r.work.play][r.work.batch] > 0 }

// stop ends the run with a halt, once nothing runs any more.
func (r *Run) stop(h Halt) Decision {
	w := &r.work
	if w.running > 0 {
		return Decision{Verdict: Proceed}
	}
	h.Play, h.Batch = w.play, w.batch
	if h.Gate {
		for _, host := range r.Plan.Plays[w.play].Batches[w.batch] {
			if at, lost := r.Lost(host); lost && at.Play == w.play {
				h.Hosts = append(h.Hosts, host)
			}
		}
	}
	h.Left = r.left()
	return Decision{Verdict: Stop, Halt: &h}
}

// left are the hosts that are not lost and have steps left to do.
func (r *Run) left() []string {
	waiting := map[string]bool{}
	for pi := r.work.play; pi < len(r.Plan.Plays); pi++ {
		for place, n := range r.index.plays[pi].hosts {
			if !r.work.hosts[n].lost && r.nextTask(pi, place, 0) < len(r.Plan.Plays[pi].Tasks) {
				waiting[r.index.hosts[n]] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(r.index.hosts), func(h string) bool { return !waiting[h] })
}

// takesOut reports whether the step takes a control-plane host out of service.
func (r *Run) takesOut(id StepID) bool {
	return len(r.Plan.ControlPlane.Hosts) > 0 && r.disrupts(id) && r.Plan.ControlPlane.Has(id.Host)
}

// mayTake says why a control-plane host must not be taken out of service now;
// nil if it may. A host that is out of service already is no loss.
func (r *Run) mayTake(n int) *Halt {
	host := r.index.hosts[n]
	for _, h := range r.Plan.ControlPlane.Hosts {
		if o, ok := r.index.number[h]; ok && o != n && r.work.hosts[o].disrupted {
			return &Halt{Hosts: []string{h}, Reason: fmt.Sprintf("control-plane host %s is out of service, and %s would be the second", h, host)}
		}
	}
	voters := r.voters()
	_, down, ok := Spare(voters, host)
	if ok {
		return nil
	}
	var names, out []string
	for _, m := range down {
		names = append(names, m.Name)
		out = append(out, fmt.Sprintf("%s (%s)", m.Name, m.Down))
	}
	return &Halt{Hosts: names, Reason: fmt.Sprintf("taking control-plane host %s out of service could cost the quorum: of %d members %s is out of service, and %d must serve",
		host, len(voters), strings.Join(out, ", "), Quorum(len(voters)))}
}

// voters are the members of etcd as they stand now.
func (r *Run) voters() []Member {
	members := r.Plan.ControlPlane.Members
	if len(members) == 0 {
		for _, h := range r.Plan.ControlPlane.Hosts {
			members = append(members, Member{Name: h, Down: r.Plan.Down[h]})
		}
	}
	out := slices.Clone(members)
	for i := range out {
		if n, ok := r.index.number[out[i].Name]; ok {
			out[i].Down = r.work.hosts[n].down
		}
	}
	return out
}

// overBudget is the halt of a play of which no host may begin, because too many
// are out of service.
func (r *Run) overBudget(play *PlannedPlay) Halt {
	var out, names []string
	for _, n := range r.index.plays[r.work.play].hosts {
		if down := r.work.hosts[n].down; down != "" {
			names = append(names, r.index.hosts[n])
			out = append(out, fmt.Sprintf("%s (%s)", r.index.hosts[n], down))
		}
	}
	const most = 5
	if len(out) > most {
		out = append(out[:most], fmt.Sprintf("and %d more", len(out)-most))
	}
	return Halt{Hosts: names, Reason: fmt.Sprintf("%d hosts are out of service, and max_unavailable is %d: %s", len(names), play.MaxUnavailable, strings.Join(out, ", "))}
}
