package probe

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Report is what one machine has seen.
type Report struct {
	// From is the machine.
	From string
	// Silent says why nothing is known of it; "" if something is.
	Silent string
	// Seen are its paths.
	Seen []Seen
	// Rules says what is known of kube-proxy's rules there.
	Rules Rules
}

// Rules is whether a machine tells what kube-proxy's rules carry.
type Rules string

const (
	// Counted: its iptables rules, and how often each is met, can be read.
	Counted Rules = "counted"
	// Uncounted: its rules are nftables', which count nothing.
	Uncounted Rules = "uncounted"
	// Unread: there was no look at them, or no program to look with.
	Unread Rules = ""
)

// Seen is what one machine has seen of one path.
type Seen struct {
	Path
	// Answers and failures, before the mark and since.
	OKBefore, FailedBefore, OK, Failed int64
	// Longest is the longest time from an answer to the next one with a failure in
	// between, since the mark, and one that is still open counts; Ago is how long ago
	// it ended, 0 if it has not.
	Longest, Ago time.Duration
	// Bad counts the failures since the last answer.
	Bad int64
	// Stopped is set where nobody asks any more: what is known is old.
	Stopped bool
	// Client is "kept" or "other" where the answer told it.
	Client string
	// Ruled is set where kube-proxy has rules for it, Carried where they were met
	// while it answered.
	Ruled, Carried bool
}

const (
	// mostPaths bounds the paths of one machine, mostWord a word that it says.
	mostPaths = 128
	mostWord  = 300
	// mostTime bounds what it says of a time, in ms, and of a count: about three
	// years.
	mostTime = 100_000_000_000
)

// Parse reads what Look printed on a machine. It takes nothing for granted: what it
// does not know it leaves out.
func Parse(from, out string) Report {
	r := Report{From: from}
	seen := map[int]*Seen{}
	type counts struct{ met, still, before, after int64 }
	counted := map[int]*counts{}
	of := func(i int) *counts {
		if counted[i] == nil {
			counted[i] = &counts{met: -1, still: -1, before: -1}
		}
		return counted[i]
	}
	var at, interval int64
	over, rules, any, asks := false, false, false, true
	for line := range strings.Lines(out) {
		w := strings.Fields(line)
		if len(w) == 0 || slices.ContainsFunc(w, func(s string) bool { return len(s) > mostWord }) {
			continue
		}
		i := -1
		if len(w) > 1 {
			if n, err := strconv.Atoi(w[1]); err == nil && n >= 0 && n < mostPaths {
				i = n
			}
		}
		switch {
		case w[0] == "none":
			r.Silent = "its probes are gone (was it rebooted?)"
		case w[0] == "missing" && len(w) == 2:
			r.Silent = w[1] + " is not installed"
		case w[0] == "over":
			over = true
		case w[0] == "norules":
			r.Rules = Unread
			rules = true
		case w[0] == "nft":
			r.Rules = Uncounted
			rules = true
		case w[0] == "at" && len(w) == 3:
			at, asks = number(w[1]), false
			if f, err := strconv.ParseFloat(w[2], 64); err == nil && f >= 0 && f < mostTime/1000 {
				interval = int64(f * 1000)
			}
		case w[0] == "path":
			asks = true
			if p, ok := pathOf(w); ok && i >= 0 {
				seen[i] = &Seen{Path: p, Stopped: true}
			}
		case (w[0] == "met" || w[0] == "still") && len(w) == 3 && i >= 0:
			if w[0] == "met" {
				of(i).met = number(w[2])
			} else {
				of(i).still = number(w[2])
			}
		case w[0] == "before" && len(w) == 12 && i >= 0:
			of(i).before = number(w[2]) + number(w[4])
			any = true
		case w[0] == "state" && len(w) == 12 && i >= 0 && seen[i] != nil:
			s := seen[i]
			s.OKBefore, s.FailedBefore, s.OK, s.Failed = number(w[2]), number(w[3]), number(w[4]), number(w[5])
			longest, ended, bad, last, asked := number(w[6]), number(w[7]), number(w[8]), number(w[9]), number(w[10])
			s.Bad = bad
			if open := asked - last; bad > 0 && open > longest {
				longest, ended = open, at
			}
			s.Longest, s.Ago = time.Duration(longest)*time.Millisecond, time.Duration(max(0, at-ended))*time.Millisecond
			if w[11] == "kept" || w[11] == "other" {
				s.Client = w[11]
			}
			// The slowest question takes as long, and then it waits.
			s.Stopped = over || at-asked > interval+3*answerTime.Milliseconds()
			of(i).after = s.OKBefore + s.OK
		}
	}
	if any && !rules {
		r.Rules = Counted
	}
	for i := range mostPaths {
		s := seen[i]
		if s == nil {
			continue
		}
		if c := counted[i]; c != nil && c.met >= 0 {
			s.Ruled = true
			s.Carried = c.still > c.met && c.before >= 0 && c.after > c.before
		}
		r.Seen = append(r.Seen, *s)
	}
	if r.Silent == "" && len(r.Seen) == 0 && asks {
		r.Silent = "it does not tell what came of its probes"
	}
	return r
}

// pathOf reads the words of a line about a path.
func pathOf(w []string) (Path, bool) {
	if len(w) != 8 {
		return Path{}, false
	}
	p := Path{Kind: Kind(w[2]), Protocol: Protocol(w[3]), Address: w[4], Port: int(number(w[5])), Name: w[7]}
	if w[6] != "-" {
		p.URL = w[6]
	}
	return p, slices.Contains(kinds, p.Kind) && slices.Contains(protocols, p.Protocol) && p.Port > 0 && p.Port < 1<<16
}

// number is a count or a time that cannot be a lie by its size alone; 0 if it is.
func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > mostTime {
		return 0
	}
	return n
}
