package rollout

// Tasks with run_once: one host of a batch does them for all.

// onceID names such a task in a batch.
type onceID struct{ play, task, batch int }

// chosen is the place of the host that does a task with run_once for a batch: the
// one that has begun it, else the first that is left, comes to it and has
// something to do there; -1 if none has.
func (r *Run) chosen(id onceID) int {
	if place, ok := r.once[id]; ok {
		return place
	}
	x := &r.index.plays[id.play]
	steps := r.Plan.Plays[id.play].Tasks[id.task].Steps
	for place := x.first[id.batch]; place < x.first[id.batch+1]; place++ {
		n := x.hosts[place]
		if s, ok := steps[r.index.hosts[n]]; ok && s.Counts() && !r.work.hosts[n].lost && r.reaches(id.play, place, id.task) {
			return place
		}
	}
	return -1
}

// doer is the place of the host that has begun a task for the host at a place: that
// host itself, or with run_once perhaps another one; -1 if nobody has.
func (r *Run) doer(pi, ti, place int) int {
	if r.Plan.Plays[pi].Tasks[ti].Once {
		if by, ok := r.once[onceID{pi, ti, r.index.plays[pi].batch[place]}]; ok {
			return by
		}
		return -1
	}
	if r.steps[pi][ti][place] == nil {
		return -1
	}
	return place
}

// awaits reports whether the host at a place has to stop at a task with run_once.
func (r *Run) awaits(pi, ti, place int) bool {
	by := r.chosen(onceID{pi, ti, r.index.plays[pi].batch[place]})
	if by < 0 {
		return false
	}
	s := r.steps[pi][ti][by]
	return s == nil || !s.Over()
}

// isOnce notes who does a task with run_once.
func (r *Run) isOnce(id StepID, place int) {
	if r.Plan.Plays[id.Play].Tasks[id.Task].Once {
		r.once[onceID{id.Play, id.Task, r.index.plays[id.Play].batch[place]}] = place
	}
}

// hasOnce reports whether a task of the play is done once for its batches.
func (p *PlannedPlay) hasOnce() bool {
	for ti := range p.Tasks {
		if p.Tasks[ti].Once {
			return true
		}
	}
	return false
}

// release lets the hosts of the batch go on that waited for one of them at a task
// with run_once, and takes out those for which it failed.
func (r *Run) release() {
	w := &r.work
	last := len(r.Plan.Plays[w.play].Tasks)
	for again := true; again; {
		again = false
		for i, ti := range w.cursor {
			place := w.base + i
			h := &w.hosts[r.index.plays[w.play].hosts[place]]
			if ti == last || h.lost {
				continue
			}
			if s := r.state(i); s != nil && !s.Over() {
				continue // it is in the middle of a step of its own
			}
			r.sharesFailure(w.play, ti, place, h)
			next := r.nextTask(w.play, place, ti)
			switch {
			case h.failed(w.play) && r.loses(w.play, place, next, h):
				r.lose(h, place)
				w.cursor[i] = last
				again = true
			case next == last:
				w.cursor[i] = last
				h.through()
				r.land(h)
				w.open--
			case next != ti:
				w.cursor[i] = next
				r.place(i)
			}
		}
	}
}

// sharesFailure notes that a task failed for a host for which another one did it.
func (r *Run) sharesFailure(pi, ti, place int, h *hostWork) {
	if by := r.doer(pi, ti, place); by >= 0 && by != place && r.failedAt(pi, place)(ti) && r.reaches(pi, place, ti) {
		h.failedAt = StepID{pi, ti, r.index.hosts[r.index.plays[pi].hosts[by]]}
	}
}

// Standby reports whether a planned step is not expected to be done: it is one of a
// rescue, or another host of its batch is to do it.
func (p *Plan) Standby(id StepID) bool {
	play := &p.Plays[id.Play]
	if play.Blocks.Rescue(id.Task) {
		return true
	}
	t := play.Tasks[id.Task]
	if !t.Once {
		return false
	}
	for _, batch := range play.Batches {
		first := ""
		for _, h := range batch {
			if s, ok := t.Steps[h]; first == "" && ok && s.Problem == nil && s.Counts() {
				first = h
			}
			if h == id.Host {
				return first != h
			}
		}
	}
	return false
}
