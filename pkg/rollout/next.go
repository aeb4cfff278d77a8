package rollout

import (
	"math"
	"slices"
	"time"
)

// Verdict is what a run should do now.
type Verdict string

const (
	// Proceed: start the ready steps, if any, and ask again when something
	// ended or at Wake.
	Proceed Verdict = "proceed"
	// Finish: every step is over.
	Finish Verdict = "finish"
	// Stop: a gate says that the run must not go on.
	Stop Verdict = "stop"
	// Leave: the run was asked to pause, and nothing that was begun is left.
	Leave Verdict = "leave"
)

// Decision is the answer of Next.
type Decision struct {
	Verdict Verdict
	Ready   []StepID
	// Wake is when the earliest waiting step may be called again, by the run's
	// clock; 0 if none.
	Wake time.Duration
	// Halt says why, with Stop.
	Halt *Halt
}

// Next decides which steps may start at the time now of the run's clock. It
// changes nothing, and costs what is ready, not what is planned.
//
// The rules:
//   - plays go one after the other, and so do the batches of a play;
//   - the gate of a batch is judged when all its hosts are through or lost, so
//     that no host is left drained or half changed because another one failed;
//   - a host that failed takes no further part;
//   - under strategy linear no host starts a task before all others of the
//     batch have finished the one before, but for those that must not be taken
//     out of service yet: the others do not wait for them;
//   - under strategy free, a host begins only while fewer hosts of the play are
//     out of service than max_unavailable, or than the batch has: those that are
//     being worked on, those that were lost out of service, and those that were
//     out of service before;
//   - no more steps run at once than there are forks, and no more hosts are in the
//     middle of a task than its throttle says;
//   - once somebody has asked the run to pause or to abort, no step begins but those
//     that have begun already and wait to be called again;
//   - of the control plane at most one host is taken out of service at a time,
//     and none whose loss would leave etcd without its quorum.
func Next(r *Run, now time.Duration) Decision {
	w := &r.work
	if w.play == len(r.Plan.Plays) {
		if w.running > 0 {
			return Decision{Verdict: Proceed}
		}
		return Decision{Verdict: Finish}
	}
	play := &r.Plan.Plays[w.play]
	halt := r.gate()
	if halt != nil && (w.open == 0 || r.fatal()) {
		return r.stop(*halt)
	}
	p := picker{r: r, room: math.MaxInt, taking: -1}
	if r.Forks > 0 {
		p.room = r.Forks - w.running
	}
	wake := p.underWay(now)
	if r.Asked == nil && (halt == nil || play.MaxUnavailable == 0) {
		p.fresh(play)
	}
	d := Decision{Verdict: Proceed, Ready: p.ready, Wake: wake}
	if len(d.Ready) > 0 || w.running > 0 || d.Wake > 0 {
		return d
	}
	switch {
	case r.Asked == nil:
	case r.Asked.Verb == Abort:
		return r.stop(Halt{Reason: r.Asked.String()})
	default:
		return Decision{Verdict: Leave}
	}
	if p.refused != nil && r.linear() && !r.index.plays[w.play].once {
		if p.ahead(); len(p.ready) > 0 {
			return Decision{Verdict: Proceed, Ready: p.ready}
		}
	}
	switch {
	case p.refused != nil:
		return r.stop(*p.refused)
	case halt != nil:
		return r.stop(*halt)
	}
	return r.stop(r.overBudget(play))
}

// picker collects the steps that may start.
type picker struct {
	r     *Run
	room  int
	ready []StepID
	// taking is the control-plane host that this decision takes out of service.
	taking int
	// begin counts the hosts that this decision lets begin a task with a throttle.
	begin map[int]int
	// refused is the first reason why a host must not be taken out of service.
	refused *Halt
}

// underWay picks among the hosts that have begun: those whose waiting time is
// over, and, unless the run is to stop, those whose next step is free to start. It returns when the next
// waiting time is over.
func (p *picker) underWay(now time.Duration) (wake time.Duration) {
	w := &p.r.work
	var due []int
	wake = w.waits.due(now, func(i int) { due = append(due, i) })
	slices.Sort(due)
	next := w.ready.next(0)
	if p.r.Asked != nil {
		next = -1
	}
	for p.room > 0 && (len(due) > 0 || next >= 0) {
		if len(due) > 0 && (next < 0 || due[0] < next) {
			p.take(due[0])
			due = due[1:]
			continue
		}
		p.take(next)
		next = w.ready.next(next + 1)
	}
	return wake
}

// fresh picks among the hosts that have not begun, as far as the budget goes. A
// host that is out of service already takes nothing from it.
func (p *picker) fresh(play *PlannedPlay) {
	w := &p.r.work
	budget := play.MaxUnavailable
	if budget == 0 {
		budget = len(w.cursor)
	}
	budget -= w.flight + w.idleDown
	// serial says how many at a time, never none.
	atLeastOne := play.MaxUnavailable == 0 && w.flight == 0
	up, down := w.fresh.next(0), w.freshDown.next(0)
	for p.room > 0 {
		switch {
		case down >= 0 && (up < 0 || budget <= 0 && !atLeastOne || down < up):
			if p.take(down) {
				atLeastOne = false
			}
			down = w.freshDown.next(down + 1)
		case up >= 0 && (budget > 0 || atLeastOne):
			if p.take(up) {
				budget--
				atLeastOne = false
			}
			up = w.fresh.next(up + 1)
		default:
			return
		}
	}
}

// ahead picks, under strategy linear, the hosts that wait for nobody but one
// that must not be taken out of service.
func (p *picker) ahead() {
	w := &p.r.work
	level := math.MaxInt
	for i, ti := range w.cursor {
		if ti != w.level && ti < min(level, len(p.r.Plan.Plays[w.play].Tasks)) && p.r.state(i) == nil {
			level = ti
		}
	}
	for i, ti := range w.cursor {
		if ti == level && p.room > 0 {
			p.take(i)
		}
	}
}

// take lets the host at a place of the batch start its next step, if it may.
func (p *picker) take(i int) bool {
	w := &p.r.work
	n := p.r.index.plays[w.play].hosts[w.base+i]
	id := StepID{w.play, w.cursor[i], p.r.index.hosts[n]}
	most := p.r.Plan.Plays[id.Play].Tasks[id.Task].Throttle
	begins := most > 0 && p.r.state(i) == nil
	if begins && w.middle[id.Task]+p.begin[id.Task] >= most {
		return false
	}
	if p.r.takesOut(id) && !w.hosts[n].disrupted {
		if p.taking >= 0 {
			return false
		}
		if refused := p.r.mayTake(n); refused != nil {
			if p.refused == nil {
				p.refused = refused
			}
			return false
		}
		p.taking = n
	}
	if begins {
		if p.begin == nil {
			p.begin = map[int]int{}
		}
		p.begin[id.Task]++
	}
	p.ready = append(p.ready, id)
	p.room--
	return true
}
