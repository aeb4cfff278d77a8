package rollout

import (
	"container/heap"
	"math/bits"
	"time"
)

// places is a set of places in a batch that gives them in order. Its cost does
// not grow with the size of the batch: a word says which of 64 words below it
// hold anything.
type places struct{ words, summary []uint64 }

func newPlaces(n int) places {
	words := (n + 63) / 64
	return places{make([]uint64, words), make([]uint64, (words+63)/64)}
}

func (p places) add(i int) {
	p.words[i/64] |= 1 << (i % 64)
	p.summary[i/4096] |= 1 << (i / 64 % 64)
}

func (p places) remove(i int) {
	p.words[i/64] &^= 1 << (i % 64)
	if p.words[i/64] == 0 {
		p.summary[i/4096] &^= 1 << (i / 64 % 64)
	}
}

// next is the first place from i on, or -1.
func (p places) next(i int) int {
	w := i / 64
	if w >= len(p.words) {
		return -1
	}
	if rest := p.words[w] >> (i % 64); rest != 0 {
		return i + bits.TrailingZeros64(rest)
	}
	w++
	for s := w / 64; s < len(p.summary); s++ {
		rest := p.summary[s]
		if s == w/64 {
			rest = rest >> (w % 64) << (w % 64)
		}
		if rest != 0 {
			w = s*64 + bits.TrailingZeros64(rest)
			return w*64 + bits.TrailingZeros64(p.words[w])
		}
	}
	return -1
}

// waits are the places whose step waits to be called again, by time.
type waits struct {
	list []wait
	at   map[int]int // place → where it stands in list
}

type wait struct {
	place int
	until time.Duration
}

func (w *waits) Len() int           { return len(w.list) }
func (w *waits) Less(i, j int) bool { return w.list[i].until < w.list[j].until }
func (w *waits) Swap(i, j int) {
	w.list[i], w.list[j] = w.list[j], w.list[i]
	w.at[w.list[i].place], w.at[w.list[j].place] = i, j
}
func (w *waits) Push(x any) {
	w.at[x.(wait).place] = len(w.list)
	w.list = append(w.list, x.(wait))
}
func (w *waits) Pop() any {
	last := w.list[len(w.list)-1]
	w.list = w.list[:len(w.list)-1]
	delete(w.at, last.place)
	return last
}

func (w *waits) add(place int, until time.Duration) {
	if w.at == nil {
		w.at = map[int]int{}
	}
	heap.Push(w, wait{place, until})
}

func (w *waits) remove(place int) {
	if i, ok := w.at[place]; ok {
		heap.Remove(w, i)
	}
}

// due calls f for every place whose time has come, and returns the first time
// after now at which another one's will; 0 if none.
func (w *waits) due(now time.Duration, f func(place int)) (wake time.Duration) {
	var below func(i int)
	below = func(i int) {
		switch {
		case i >= len(w.list):
		case w.list[i].until <= now:
			f(w.list[i].place)
			below(2*i + 1)
			below(2*i + 2)
		case wake == 0 || w.list[i].until < wake:
			wake = w.list[i].until
		}
	}
	below(0)
	return wake
}
