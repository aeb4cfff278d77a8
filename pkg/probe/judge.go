package probe

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Evidence is what all machines together have seen. A run's journal keeps it under
// Note.
type Evidence struct {
	// Interval is the time between two questions on one path.
	Interval Milliseconds `json:"interval_ms"`
	// Machines were to ask; Silent are those of which nothing is known, as "name
	// (why)".
	Machines int      `json:"machines"`
	Silent   []string `json:"silent,omitempty"`
	// Baseline is set where nothing has been changed yet.
	Baseline bool  `json:"baseline,omitempty"`
	Paths    []Row `json:"paths"`
}

// Milliseconds is a time as the evidence has it: the machines' uptime is no finer than
// ten of them.
type Milliseconds int64

func (m Milliseconds) Duration() time.Duration { return time.Duration(m) * time.Millisecond }
func (m Milliseconds) String() string          { return m.Duration().String() }

func inMS(d time.Duration) Milliseconds { return Milliseconds(d.Milliseconds()) }

// Note is the key of an Evidence in JSON among the notes of a step.
const Note = "service_probes"

// Row is one path, as the nodes see it together, or the bastion.
type Row struct {
	Path
	Bastion bool `json:"bastion,omitempty"`
	// Machines ask, Answered is on how many of them it answered before. Only those
	// can show anything.
	Machines int `json:"machines"`
	Answered int `json:"answered"`
	// OK and Failed count answers and failures since then, on these.
	OK     int64 `json:"ok"`
	Failed int64 `json:"failed"`
	// Longest is the longest time without an answer, LongestFrom the machine that saw
	// it, Ago how long before the look it ended; 0 where it lasts.
	Longest     Milliseconds `json:"longest_ms"`
	LongestFrom string       `json:"longest_from,omitempty"`
	Ago         Milliseconds `json:"ago_ms,omitempty"`
	// Mute are the machines on which it did not answer before, Lost those on which it
	// did and does no more, Stopped those that ask no more, Cut those whose open
	// connection was cut.
	Mute    []string `json:"mute,omitempty"`
	Lost    []string `json:"lost,omitempty"`
	Stopped []string `json:"stopped,omitempty"`
	Cut     []string `json:"cut,omitempty"`
	// Kept counts machines whose own address the answer held, Other those that it
	// showed by another one.
	Kept  int `json:"kept,omitempty"`
	Other int `json:"other,omitempty"`
	// Carried are the machines on which kube-proxy's rules carry it. Counted is on how
	// many that could be told, Ruled on how many there are such rules at all.
	Carried []string `json:"carried,omitempty"`
	Counted int      `json:"counted,omitempty"`
	Ruled   int      `json:"ruled,omitempty"`
}

// lostAfter is how many failures in a row mean that a path does not answer: one
// datagram may be lost anywhere.
const lostAfter = 3

// Judge sums up what machines report. gone are addresses of which it is known that
// nobody has them any more; baseline says that nothing has been changed yet.
func Judge(reports []Report, bastion string, gone map[string]bool, baseline bool) Evidence {
	e := Evidence{Machines: len(reports), Interval: inMS(Interval(len(reports))), Baseline: baseline}
	rows := map[rowKey]*Row{}
	reports = slices.SortedFunc(slices.Values(reports), func(a, b Report) int { return cmp.Compare(a.From, b.From) })
	for _, r := range reports {
		if r.Silent != "" {
			e.Silent = append(e.Silent, fmt.Sprintf("%s (%s)", r.From, r.Silent))
			continue
		}
		for _, s := range r.Seen {
			key := rowKey{s.together(), r.From == bastion}
			if rows[key] == nil {
				rows[key] = &Row{Path: key.Path, Bastion: key.bastion}
			}
			rows[key].add(r, s, gone[s.Address], baseline)
		}
	}
	for _, row := range rows {
		e.Paths = append(e.Paths, *row)
	}
	slices.SortFunc(e.Paths, func(a, b Row) int {
		return cmp.Or(
			cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind)), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Port, b.Port),
			cmp.Compare(slices.Index(protocols, a.Protocol), slices.Index(protocols, b.Protocol)), cmp.Compare(a.Address, b.Address), cmp.Compare(a.URL, b.URL),
			cmp.Compare(fmt.Sprint(a.Bastion), fmt.Sprint(b.Bastion)),
		)
	})
	return e
}

type rowKey struct {
	Path
	bastion bool
}

// together is the path as all nodes have it: each asks for a NodePort at an address
// of its own.
func (p Path) together() Path {
	if p.Kind == NodePort || p.Kind == Via {
		p.Address, p.URL = "", ""
	}
	return p
}

func (row *Row) add(r Report, s Seen, gone, baseline bool) {
	row.Machines++
	before, failed := s.OKBefore, s.FailedBefore
	if baseline {
		before, failed = before+s.OK, failed+s.Failed
	}
	switch {
	case gone:
		row.Mute = append(row.Mute, r.From+" (the pod is gone)")
		return
	case before == 0 && failed == 0:
		row.Mute = append(row.Mute, r.From+" (not asked before)")
		return
	case before < 9*failed || s.Protocol.Open() && failed > 0:
		row.Mute = append(row.Mute, fmt.Sprintf("%s (%d of %d failed before)", r.From, failed, before+failed))
		return
	}
	row.Answered++
	if baseline {
		return
	}
	row.OK += s.OK
	row.Failed += s.Failed
	if longest := inMS(s.Longest); longest > row.Longest {
		row.Longest, row.LongestFrom, row.Ago = longest, r.From, inMS(s.Ago)
	}
	switch {
	case s.Stopped:
		row.Stopped = append(row.Stopped, r.From)
	case s.Protocol.Open():
		if s.Failed > 0 {
			row.Cut = append(row.Cut, r.From)
		}
	case s.Bad >= lostAfter:
		row.Lost = append(row.Lost, r.From)
	}
	switch s.Client {
	case "kept":
		row.Kept++
	case "other":
		row.Other++
	}
	if r.Rules == Counted && s.rules() {
		row.Counted++
		if s.Ruled {
			row.Ruled++
		}
		if s.Carried {
			row.Carried = append(row.Carried, r.From)
		}
	}
}

// rules reports whether kube-proxy would have rules for the path on the machine that
// asks.
func (s Seen) rules() bool {
	return s.Kind == ClusterIP || s.Kind == LoadBalancer || s.Kind == NodePort
}

// Lost tells each path that answered before and does not any more, and from where.
func (e Evidence) Lost() []string {
	return e.each(func(r Row) []string { return r.Lost })
}

// Carried tells each path that kube-proxy's rules still carry, and where.
func (e Evidence) Carried() []string {
	return e.each(func(r Row) []string { return r.Carried })
}

func (e Evidence) each(of func(Row) []string) []string {
	var out []string
	for _, r := range e.Paths {
		if from := of(r); len(from) > 0 {
			out = append(out, r.Path.String()+" from "+few(from))
		}
	}
	return out
}

// Mute tells each path that shows nothing, because it did not answer before from
// anywhere.
func (e Evidence) Mute() []string {
	var out []string
	for _, r := range e.Paths {
		if r.Answered == 0 && !r.Protocol.Open() {
			out = append(out, r.Where())
		}
	}
	return out
}

// Answering counts the paths that show something.
func (e Evidence) Answering() (n int) {
	for _, r := range e.Paths {
		if r.Answered > 0 {
			n++
		}
	}
	return n
}

// Worst is the row with the longest time without an answer, of new connections; nil
// if there is none.
func (e Evidence) Worst() *Row {
	var worst *Row
	for i := range e.Paths {
		if r := &e.Paths[i]; !r.Protocol.Open() && r.Longest > 0 && (worst == nil || r.Longest > worst.Longest) {
			worst = r
		}
	}
	return worst
}

// Text sums it up in a line, and says of what nothing is known.
func (e Evidence) Text() string {
	ended := 0
	for _, r := range e.Paths {
		if r.Answered > 0 && len(r.Stopped) == r.Answered {
			ended++
		}
	}
	text := "no evidence of Services: no path to one answered before"
	if n := e.Answering(); n > 0 {
		text = fmt.Sprintf("paths to Services asked: %d, no gap", n-ended)
		if w := e.Worst(); w != nil {
			text = fmt.Sprintf("paths to Services asked: %d, the longest gap %s (%s, from %s)", n-ended, w.Longest, w.Path, w.LongestFrom)
		}
	}
	if ended > 0 {
		text += fmt.Sprintf(", and %d of which nothing is known: nobody asks any more (was fleetd away for longer than their lease?)", ended)
	}
	if len(e.Silent) > 0 {
		text += "; nothing is known of " + few(e.Silent)
	}
	return text
}

// Where names the path and who asks.
func (r Row) Where() string {
	if r.Bastion {
		return r.Path.String() + " from the bastion"
	}
	return r.Path.String()
}

// mostNamed bounds how many machines are named.
const mostNamed = 5

func few(names []string) string {
	if len(names) <= mostNamed {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:mostNamed], ", "), len(names)-mostNamed)
}
