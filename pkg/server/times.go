package server

import (
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // a bastion need not have it

	"github.com/robfig/cron/v3"
)

// Times are when something is to be done: times of the clock on the wall of a place.
type Times struct {
	// Cron is the text that says so, Zone the place.
	Cron string
	Zone *time.Location
	spec *cron.SpecSchedule
}

// fields are those of a crontab: no seconds.
var fields = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

// ParseTimes reads the five fields of a crontab, or @daily and its like.
func ParseTimes(text string, zone *time.Location) (Times, error) {
	if strings.Contains(text, "=") { // the library's own way to name a zone
		return Times{}, errors.New("the time zone stands in time_zone")
	}
	parsed, err := fields.Parse(text)
	if err != nil {
		return Times{}, err
	}
	spec, ok := parsed.(*cron.SpecSchedule)
	if !ok { // @every counts from when the process began
		return Times{}, fmt.Errorf("%q is no time of the clock", text)
	}
	t := Times{Cron: text, Zone: zone, spec: spec}
	if spec.Location = time.UTC; spec.Next(time.Unix(0, 0)).IsZero() {
		return Times{}, fmt.Errorf("%q never comes", text)
	}
	return t, nil
}

// Next is the first of the times after t; zero if there is none for years. Where the
// clocks are set forward over one, it is as long after the jump as it would have been
// without; where they are set back over one, it is the first of the two. What is for every
// hour goes by the hours that pass.
func (s Times) Next(t time.Time) (first time.Time) {
	const everyHour = 1<<24 - 1
	if s.spec.Hour&everyHour == everyHour {
		here := *s.spec
		here.Location = s.Zone
		return here.Next(t.In(s.Zone))
	}
	// What the clock on the wall shows, counted as if it were never set. Just after it was
	// set forward, what it has skipped is still to come.
	wall := t.Add(min(s.offset(t), s.offset(t.Add(-mostOffset)))).UTC()
	for {
		wall = s.spec.Next(wall)
		// What comes late is shown later than wall: others may come before it.
		if wall.IsZero() || !first.IsZero() && !wall.Before(first.Add(s.offset(first))) {
			return first
		}
		if next := s.when(wall); next.After(t) && (first.IsZero() || next.Before(first)) {
			first = next
		}
	}
}

// mostOffset is more than any zone is from UTC: a day and two hours.
const mostOffset = 26 * time.Hour

// offset is by how much the clock on the wall is ahead of UTC.
func (s Times) offset(t time.Time) time.Duration {
	_, seconds := t.In(s.Zone).Zone()
	return time.Duration(seconds) * time.Second
}

// when is the first time at which the clock shows that, or would if it were not just
// then set forward.
func (s Times) when(wall time.Time) time.Time {
	before, after := wall.Add(-s.offset(wall.Add(-mostOffset))), wall.Add(-s.offset(wall.Add(mostOffset)))
	if shows := after.Add(s.offset(after)).Equal(wall); shows && !before.Add(s.offset(before)).Equal(wall) {
		return after
	}
	return before
}
