package rollout

// index numbers the hosts of a plan, so that what is asked of every step is
// found without a search.
type index struct {
	hosts  []string       // by number, in order of appearance
	number map[string]int // by name
	plays  []playIndex
}

// playIndex says where each host stands in a play. Places count through all
// batches.
type playIndex struct {
	places  []int // by number of the host; -1 = it is not in the play
	hosts   []int // by place: the host's number
	batch   []int // by place: its batch
	first   []int // by batch: its first place; one more at the end
	nesting nesting
	once    bool  // a task is done once for a batch
	ends    []int // the tasks that bring something to its end
}

type batchID struct{ play, batch int }

func newIndex(p *Plan) index {
	x := index{hosts: p.Hosts(), number: map[string]int{}}
	for n, h := range x.hosts {
		x.number[h] = n
	}
	for _, play := range p.Plays {
		y := playIndex{places: make([]int, len(x.hosts)), nesting: newNesting(&play), once: play.hasOnce()}
		for n := range y.places {
			y.places[n] = -1
		}
		for ti, t := range play.Tasks {
			if t.Ends != "" {
				y.ends = append(y.ends, ti)
			}
		}
		for bi, batch := range play.Batches {
			y.first = append(y.first, len(y.hosts))
			for _, h := range batch {
				n := x.number[h]
				y.places[n] = len(y.hosts)
				y.hosts, y.batch = append(y.hosts, n), append(y.batch, bi)
			}
		}
		y.first = append(y.first, len(y.hosts))
		x.plays = append(x.plays, y)
	}
	return x
}

// spot is the number of a step's host, and its place in the step's play; -1 if
// it has none. It is looked up once for an event: in a big fleet every search is
// a walk to memory.
type spot struct{ number, place int }

func (x *index) find(id StepID) spot {
	n, ok := x.number[id.Host]
	if !ok || id.Play < 0 || id.Play >= len(x.plays) {
		return spot{-1, -1}
	}
	return spot{n, x.plays[id.Play].places[n]}
}
