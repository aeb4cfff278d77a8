package rollout

import "slices"

// work is where a run stands, worked out from plan and step states: the batch
// that is being worked on and what its hosts wait for. It is kept up event by
// event, so that Next looks at what is ready and not at what is planned; derive
// works all of it out anew, and must come to the same.
type work struct {
	hosts []hostWork // by number
	// lost counts the hosts that each batch lost, fatal those of them of which none
	// may be (any_errors_fatal), size those that were there when its play began, by
	// play and batch.
	lost, fatal, size [][]int
	running           int // steps that are being executed

	play, batch int
	base        int // the batch's first place; the sets below count from there
	open        int // hosts of the batch that have steps left
	cursor      []int
	// middle counts, by task, the hosts of the batch that have begun it and are not
	// through with it.
	middle []int
	// ready are hosts in the middle of their steps, fresh those that begin with
	// the next one, freshDown those of them that are out of service already.
	ready, fresh, freshDown places
	waits                   waits
	// flight counts the hosts that have begun the play and are not through with
	// it; idleDown the others of the play that are out of service.
	flight, idleDown int
	// Under strategy linear: the task that the batch is at, and how many hosts
	// have yet to finish it.
	level, atLevel int
}

type hostWork struct {
	lost bool
	// failedAt is the last step that failed; where the host is lost, why.
	failedAt StepID
	// down says why the host is out of service: as it was observed, or since the
	// run lost it. "" = it serves, as far as is known.
	down string
	// disrupted is set while the host is out of service for its steps.
	disrupted bool
	flight    bool
}

// derive works out the work of a run from its plan and its steps.
func (r *Run) derive() {
	w := work{hosts: make([]hostWork, len(r.index.hosts))}
	for n, h := range r.index.hosts {
		w.hosts[n].down = r.Plan.Down[h]
	}
	for _, m := range r.Plan.ControlPlane.Members {
		if n, ok := r.index.number[m.Name]; ok && w.hosts[n].down == "" {
			w.hosts[n].down = m.Down
		}
	}
	for _, play := range r.Plan.Plays {
		sizes := make([]int, len(play.Batches))
		for bi, b := range play.Batches {
			sizes[bi] = len(b)
		}
		w.size, w.lost, w.fatal = append(w.size, sizes), append(w.lost, make([]int, len(play.Batches))), append(w.fatal, make([]int, len(play.Batches)))
	}
	r.work = w
	for pi := range r.Plan.Plays {
		r.derivePlay(pi)
	}
	r.work.play, r.work.batch = 0, -1
	r.nextBatch()
	r.advance()
}

// derivePlay takes over what one play has done to its hosts.
func (r *Run) derivePlay(pi int) {
	x := &r.index.plays[pi]
	var left []int
	for place, n := range x.hosts {
		if r.work.hosts[n].lost {
			r.work.size[pi][x.batch[place]]--
		} else if r.deriveHost(pi, place) {
			left = append(left, place)
		}
	}
	// Who does a task for others depends on who is left.
	for again := true; again; {
		again = false
		left = slices.DeleteFunc(left, func(place int) bool {
			h := &r.work.hosts[x.hosts[place]]
			if !h.failed(pi) || !r.loses(pi, place, r.nextTask(pi, place, 0), h) {
				return false
			}
			r.markLost(h)
			r.countLost(pi, x.batch[place], h)
			again = x.once
			return true
		})
	}
	for _, place := range left {
		if h := &r.work.hosts[x.hosts[place]]; h.disrupted && r.nextTask(pi, place, 0) == len(r.Plan.Plays[pi].Tasks) {
			h.through()
		}
	}
}

// deriveHost takes over what a play has done to one host. It reports whether
// anything follows from it.
func (r *Run) deriveHost(pi, place int) bool {
	n := r.index.plays[pi].hosts[place]
	h := &r.work.hosts[n]
	begun := false
	for ti := range r.Plan.Plays[pi].Tasks {
		r.sharesFailure(pi, ti, place, h)
		s := r.steps[pi][ti][place]
		if s == nil {
			continue
		}
		begun = true
		id := StepID{pi, ti, r.index.hosts[n]}
		if s.Active {
			r.work.running++
		}
		h.disrupted = h.disrupted || r.disrupts(id)
		if s.Over() && s.Outcome.Bad() {
			if h.failedAt = id; r.index.plays[pi].nesting == nil || r.beyondRescue(id) {
				break // what others did after that does not concern it
			}
		}
	}
	return h.failed(pi) || begun && h.disrupted
}

// failed reports whether a step of a play has failed on the host.
func (h *hostWork) failed(pi int) bool { return h.failedAt.Host != "" && h.failedAt.Play == pi }

// loses reports whether the run has lost the host at a place of a play, of which a
// step failed and next is what could come now.
func (r *Run) loses(pi, place, next int, h *hostWork) bool {
	switch {
	case r.index.plays[pi].nesting == nil, r.beyondRescue(h.failedAt):
		return true
	case next < len(r.Plan.Plays[pi].Tasks):
		return false
	}
	return r.badly(pi, place)
}

// through says that the host has come to the end of a play. If the play took it
// out of service, it has put it back.
func (h *hostWork) through() {
	if h.disrupted {
		h.disrupted, h.down = false, ""
	}
}

func (r *Run) markLost(h *hostWork) {
	h.lost = true
	if h.disrupted || r.Step(h.failedAt).Outcome.Kind == Unreachable {
		h.down = "was lost at " + r.Plan.Task(h.failedAt).Name
	}
	h.disrupted = false
}

func (r *Run) countLost(pi, bi int, h *hostWork) {
	r.work.lost[pi][bi]++
	if r.Plan.Plays[pi].AnyErrorsFatal || r.Plan.Task(h.failedAt).AnyErrorsFatal {
		r.work.fatal[pi][bi]++
	}
}

func (r *Run) disrupts(id StepID) bool {
	s, _ := r.Plan.Step(id)
	return s.Change.Disruptive
}

// nextTask is the first task from ti on that the host has yet to do; the number
// of tasks if there is none.
func (r *Run) nextTask(pi, place, ti int) int {
	tasks := r.Plan.Plays[pi].Tasks
	host := r.index.hosts[r.index.plays[pi].hosts[place]]
	for ; ti < len(tasks); ti++ {
		if s := r.steps[pi][ti][place]; s != nil && s.Over() {
			continue
		}
		if tasks[ti].Once {
			if r.awaits(pi, ti, place) && r.reaches(pi, place, ti) {
				break
			}
			continue
		}
		if planned, ok := tasks[ti].Steps[host]; ok && planned.Counts() && r.reaches(pi, place, ti) {
			break
		}
	}
	return ti
}

// nextBatch goes on to the next batch that there is, in this play or a later one.
func (r *Run) nextBatch() {
	w := &r.work
	for w.batch++; w.play < len(r.Plan.Plays) && w.batch >= len(r.Plan.Plays[w.play].Batches); {
		w.play, w.batch = w.play+1, 0
	}
	if w.play < len(r.Plan.Plays) {
		r.enter()
	}
}

// advance leaves every batch that is over and whose gate lets the run go on.
func (r *Run) advance() {
	for r.work.play < len(r.Plan.Plays) && r.work.open == 0 && r.gate() == nil {
		r.nextBatch()
	}
}

// enter takes up a batch.
func (r *Run) enter() {
	w := &r.work
	x := &r.index.plays[w.play]
	if w.batch == 0 {
		w.idleDown = 0
		for _, n := range x.hosts {
			if w.hosts[n].down != "" {
				w.idleDown++
			}
		}
	}
	w.base = x.first[w.batch]
	size := x.first[w.batch+1] - w.base
	w.open, w.flight = 0, 0
	w.cursor = make([]int, size)
	w.ready, w.fresh, w.freshDown, w.waits = newPlaces(size), newPlaces(size), newPlaces(size), waits{}
	last := len(r.Plan.Plays[w.play].Tasks)
	w.middle = make([]int, last)
	for ti, states := range r.steps[w.play] {
		for _, s := range states[w.base : w.base+size] {
			if s != nil && !s.Over() {
				w.middle[ti]++
			}
		}
	}
	for i := range size {
		h := &w.hosts[x.hosts[w.base+i]]
		w.cursor[i] = last
		if h.lost {
			continue
		}
		if w.cursor[i] = r.nextTask(w.play, w.base+i, 0); w.cursor[i] == last {
			continue
		}
		w.open++
		if r.begun(i) {
			r.takeOff(h)
		}
		r.place(i)
	}
	r.level()
}

func (r *Run) linear() bool { return r.Plan.Plays[r.work.play].Strategy == Linear }

// begun reports whether a host of the batch has started any of its steps.
func (r *Run) begun(i int) bool {
	for _, states := range r.steps[r.work.play] {
		if states[r.work.base+i] != nil {
			return true
		}
	}
	return false
}

// state is that of the step that a host of the batch is at.
func (r *Run) state(i int) *StepState {
	return r.steps[r.work.play][r.work.cursor[i]][r.work.base+i]
}

// place puts a host of the batch where it belongs by the step that it is at.
func (r *Run) place(i int) {
	w := &r.work
	h := &w.hosts[r.index.plays[w.play].hosts[w.base+i]]
	switch s := r.state(i); {
	case s != nil && s.Active:
	case s != nil:
		w.waits.add(i, s.NotBefore)
	case r.linear(): // level says when
	case h.flight:
		w.ready.add(i)
	case h.down != "":
		w.freshDown.add(i)
	default:
		w.fresh.add(i)
	}
}

// does reports whether the host at a place of the batch does the task that it is at
// itself.
func (r *Run) does(i int) bool {
	w := &r.work
	ti := w.cursor[i]
	return !r.Plan.Plays[w.play].Tasks[ti].Once || r.chosen(onceID{w.play, ti, w.batch}) == w.base+i
}

// level finds, under strategy linear, the task that the batch is at, and lets
// the hosts that are at it start.
func (r *Run) level() {
	w := &r.work
	if !r.linear() || w.open == 0 {
		return
	}
	w.level, w.atLevel = len(r.Plan.Plays[w.play].Tasks), 0
	for _, ti := range w.cursor {
		switch {
		case ti < w.level:
			w.level, w.atLevel = ti, 1
		case ti == w.level:
			w.atLevel++
		}
	}
	for i, ti := range w.cursor {
		if ti == w.level && r.state(i) == nil && r.does(i) {
			w.ready.add(i)
		}
	}
}

// takeOff and land count a host in and out of the play.
func (r *Run) takeOff(h *hostWork) {
	if h.flight {
		return
	}
	h.flight = true
	r.work.flight++
	if h.down != "" {
		r.work.idleDown--
	}
}

func (r *Run) land(h *hostWork) {
	if !h.flight {
		return // another host has done all for it
	}
	h.flight = false
	r.work.flight--
	if h.down != "" {
		r.work.idleDown++
	}
}

// started follows up on a step that begins.
func (r *Run) started(id StepID, at spot, first, disruptive bool) {
	w := &r.work
	if first {
		w.middle[id.Task]++
	}
	i := at.place - w.base
	h := &w.hosts[at.number]
	w.running++
	w.waits.remove(i)
	w.ready.remove(i)
	w.fresh.remove(i)
	w.freshDown.remove(i)
	r.takeOff(h)
	h.disrupted = h.disrupted || disruptive
}

// ended follows up on the end of an attempt.
func (r *Run) ended(id StepID, at spot, s *StepState) {
	w := &r.work
	i := at.place - w.base
	h := &w.hosts[at.number]
	w.running--
	switch {
	case !s.Over():
		w.waits.add(i, s.NotBefore)
		return
	case s.Outcome.Bad():
		h.failedAt = id
	}
	w.middle[id.Task]--
	last := len(r.Plan.Plays[w.play].Tasks)
	w.cursor[i] = r.nextTask(w.play, at.place, id.Task+1)
	switch {
	case h.failed(w.play) && r.loses(w.play, at.place, w.cursor[i], h):
		r.lose(h, at.place)
		w.cursor[i] = last
	case w.cursor[i] == last:
		h.through()
		r.land(h)
		w.open--
	default:
		r.place(i)
	}
	if t := &r.Plan.Plays[w.play].Tasks[id.Task]; r.index.plays[w.play].once && (s.Outcome.Bad() || t.Once || t.Ends != "") {
		r.release()
		r.level()
	} else if r.linear() && id.Task == w.level {
		if w.atLevel--; w.atLevel == 0 {
			r.level()
		}
	}
	r.advance()
}

// lose takes a host out of the run: none of its open steps will be executed.
func (r *Run) lose(h *hostWork, place int) {
	w := &r.work
	r.markLost(h)
	r.land(h)
	w.open--
	r.countLost(w.play, w.batch, h)
	n := r.index.plays[w.play].hosts[place]
	for pi := w.play + 1; pi < len(r.Plan.Plays); pi++ {
		if place := r.index.plays[pi].places[n]; place >= 0 {
			w.size[pi][r.index.plays[pi].batch[place]]--
		}
	}
}

// turn reports whether the step is the one that its host is at.
func (r *Run) turn(id StepID, at spot) bool {
	w := &r.work
	i := at.place - w.base
	return id.Play == w.play && i >= 0 && i < len(w.cursor) && w.cursor[i] == id.Task && r.does(i)
}
