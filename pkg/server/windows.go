package server

import (
	"regexp"
	"slices"
	"time"

	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/yaml"
)

// Window is when a fleet may be changed: from each of the times on, for as long as it
// lasts on the clock that is never set.
type Window struct {
	Opens Times
	Lasts time.Duration
}

const (
	// longestWindow bounds what a configuration may say.
	longestWindow = 7 * 24 * time.Hour
	// mostOpen is for how long windows may follow each other without a break. What is
	// open for longer never closes, as far as anybody is concerned.
	mostOpen = 31 * 24 * time.Hour
)

// openTimes is the first of the times at which a fleet is open that ends after t.
// Windows that overlap or touch are one. It is zero if there is none for years.
func openTimes(windows []Window, t time.Time) (opens, closes time.Time) {
	for _, w := range windows {
		// The first that has not closed by t: it may have opened before.
		if o := w.Opens.Next(t.Add(-w.Lasts)); !o.IsZero() && (opens.IsZero() || o.Before(opens)) {
			opens = o
		}
	}
	closes = opens
	for grown := !opens.IsZero(); grown && closes.Sub(opens) <= mostOpen; {
		grown = false
		for _, w := range windows {
			if o := w.Opens.Next(closes.Add(-w.Lasts)); !o.IsZero() && !o.After(closes) {
				closes, grown = o.Add(w.Lasts), true
			}
		}
	}
	return opens, closes
}

// window is when a run may begin or go on: not before opens, not from until on.
type window struct {
	opens, until time.Time
	// always is set for a fleet without windows.
	always bool
}

// open reports whether it is open at a time that is before its end.
func (w window) open(now time.Time) bool {
	return w.always || !w.opens.IsZero() && !now.Before(w.opens)
}

// holds is until when an approval of now does: for approvalLasts of the window that is open
// or the next, and not longer than that.
func (w window) holds(now time.Time) time.Time {
	if !w.open(now) {
		now = w.opens
	}
	if until := now.Add(approvalLasts); w.always || until.Before(w.until) {
		return until
	}
	return w.until
}

// window is the one that is open at t, or the next.
func (f Fleet) window(t time.Time) window {
	if len(f.Windows) == 0 {
		return window{always: true}
	}
	for from := t; ; {
		opens, closes := openTimes(f.Windows, from)
		if until := closes.Add(-f.Reserve); opens.IsZero() || until.After(t) {
			return window{opens: opens, until: until}
		}
		from = closes
	}
}

// closes reports whether there is a time at which all windows are closed.
func closes(windows []Window) bool {
	return !slices.ContainsFunc(windows, func(w Window) bool {
		opens, closes := openTimes(windows, w.Opens.Next(time.Unix(0, 0)))
		return closes.Sub(opens) > mostOpen
	})
}

// windowNode is a window as the configuration has it, before its time zone is known.
type windowNode struct {
	at, opens *yaml.Node
	cron      string
	lasts     time.Duration
}

func (d *decoder) window(n *yaml.Node) windowNode {
	w := windowNode{at: n}
	before := len(d.errs)
	d.mapping(n, map[string]func(*yaml.Node){
		"opens": func(n *yaml.Node) {
			w.opens = n
			d.text(n, &w.cron)
		},
		"lasts": func(n *yaml.Node) { d.duration(n, &w.lasts) },
	})
	if len(d.errs) == before && (w.opens == nil || w.lasts == 0) {
		d.errorf(n, `{opens: 0 22 * * 1-5, lasts: 6h} is from ten in the evening to four, Monday to Friday.`, "a window needs opens and lasts")
	}
	return w
}

// windows takes over what a fleet's windows say together.
func (d *decoder) windows(f *Fleet, nodes []windowNode, reserve *yaml.Node, zone *time.Location) {
	before := len(d.errs)
	for _, n := range nodes {
		opens, err := ParseTimes(n.cron, zone)
		switch {
		case err != nil:
			d.errorf(n.opens, `Minute, hour, day of the month, month, day of the week: "0 22 * * *" is at ten each evening; or @daily.`, "the window never opens: %v", err)
		case n.lasts > longestWindow:
			d.errorf(n.at, "Let several follow each other.", "a window lasts at most %d hours", int(longestWindow.Hours()))
		case n.lasts <= f.Reserve:
			d.errorf(n.at, "reserve is for how long before the end of a window no other step begins.", "nothing would ever begin in a window of %s with a reserve of %s", n.lasts, f.Reserve)
		}
		f.Windows = append(f.Windows, Window{opens, n.lasts})
	}
	switch {
	case len(d.errs) > before:
	case reserve != nil && len(nodes) == 0:
		d.errorf(reserve, "Add windows, or leave it out.", "reserve is about the end of windows, and there are none")
	case !closes(f.Windows):
		d.errorf(nodes[0].at, "Without windows an approved plan begins at any time.", "the windows never close: one follows the other")
	}
}

// durationForm is what a configuration may say of one, as its schema has it.
var durationForm = regexp.MustCompile(`^([1-9][0-9]{0,3}h([0-9]{1,4}m)?|[1-9][0-9]{0,3}m)$`)

func (d *decoder) duration(n *yaml.Node, into *time.Duration) {
	var s string
	if !d.text(n, &s) {
		return
	}
	parsed, err := time.ParseDuration(s)
	if !durationForm.MatchString(s) || err != nil {
		d.errorf(n, "Write it as 6h, 90m or 1h30m.", "%q is no duration", text.Clip(s))
		return
	}
	*into = parsed
}
