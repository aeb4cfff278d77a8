package server

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// TestTimesAcrossJumps: the clock is set forward on 28 March 2027 at 2:00 in Berlin, and
// back on 31 October at 3:00.
func TestTimesAcrossJumps(t *testing.T) {
	for name, c := range map[string]struct {
		cron, zone, from string
		want             []string
	}{
		"each day":                        {"0 6 * * *", "Europe/Berlin", "2027-03-27T00:00:00+01:00", []string{"2027-03-27T06:00:00+01:00", "2027-03-28T06:00:00+02:00", "2027-03-29T06:00:00+02:00"}},
		"in the hour that is not there":   {"30 2 * * *", "Europe/Berlin", "2027-03-27T00:00:00+01:00", []string{"2027-03-27T02:30:00+01:00", "2027-03-28T03:30:00+02:00", "2027-03-29T02:30:00+02:00"}},
		"in the hour that is there twice": {"30 2 * * *", "Europe/Berlin", "2027-10-30T00:00:00+02:00", []string{"2027-10-30T02:30:00+02:00", "2027-10-31T02:30:00+02:00", "2027-11-01T02:30:00+01:00"}},
		"begun in its second time":        {"30 2 * * *", "Europe/Berlin", "2027-10-31T02:10:00+01:00", []string{"2027-11-01T02:30:00+01:00"}},
		"each hour, forward":              {"0 * * * *", "Europe/Berlin", "2027-03-28T00:30:00+01:00", []string{"2027-03-28T01:00:00+01:00", "2027-03-28T03:00:00+02:00", "2027-03-28T04:00:00+02:00"}},
		"each hour, back":                 {"0 * * * *", "Europe/Berlin", "2027-10-31T01:30:00+02:00", []string{"2027-10-31T02:00:00+02:00", "2027-10-31T02:00:00+01:00", "2027-10-31T03:00:00+01:00"}},
		"some hours, forward":             {"0 1-4 * * *", "Europe/Berlin", "2027-03-28T00:30:00+01:00", []string{"2027-03-28T01:00:00+01:00", "2027-03-28T03:00:00+02:00", "2027-03-28T04:00:00+02:00", "2027-03-29T01:00:00+02:00"}},
		"begun after the jump over it":    {"30 2 * * *", "Europe/Berlin", "2027-03-28T03:10:00+02:00", []string{"2027-03-28T03:30:00+02:00", "2027-03-29T02:30:00+02:00"}},
		"two that are not there":          {"0,30 2 * * *", "Europe/Berlin", "2027-03-28T01:00:00+01:00", []string{"2027-03-28T03:00:00+02:00", "2027-03-28T03:30:00+02:00", "2027-03-29T02:00:00+02:00"}},
		"one that comes late, one not":    {"15,40 2 * * *", "Australia/Lord_Howe", "2027-10-03T00:00:00+10:30", []string{"2027-10-03T02:40:00+11:00", "2027-10-03T02:45:00+11:00", "2027-10-04T02:15:00+11:00"}},
		"half an hour, back":              {"45 1 * * *", "Australia/Lord_Howe", "2027-04-03T12:00:00+11:00", []string{"2027-04-04T01:45:00+11:00", "2027-04-05T01:45:00+10:30"}},
		"no jump":                         {"@daily", "UTC", "2027-03-27T23:59:59Z", []string{"2027-03-28T00:00:00Z", "2027-03-29T00:00:00Z"}},
		"a day that is there":             {"0 0 29 2 *", "UTC", "2027-01-01T00:00:00Z", []string{"2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"}},
	} {
		t.Run(name, func(t *testing.T) {
			times, err := ParseTimes(c.cron, zone(t, c.zone))
			if err != nil {
				t.Fatal(err)
			}
			at, err := time.Parse(time.RFC3339, c.from)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range c.want {
				if at = times.Next(at); at.In(times.Zone).Format(time.RFC3339) != want {
					t.Fatalf("%s, want %s", at.In(times.Zone).Format(time.RFC3339), want)
				}
			}
		})
	}
}

// TestTimesProperties: whatever the place and the year, what is for once a day comes once
// a day, at its time unless that is not there, and nothing comes before it is asked for.
func TestTimesProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		place := zone(t, rapid.SampledFrom([]string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Africa/Cairo", "Asia/Kathmandu", "Pacific/Apia", "UTC"}).Draw(rt, "zone"))
		hour, minute := rapid.IntRange(0, 23).Draw(rt, "hour"), rapid.IntRange(0, 59).Draw(rt, "minute")
		times, err := ParseTimes(time.Date(2000, 1, 1, hour, minute, 0, 0, time.UTC).Format("4 15 * * *"), place)
		if err != nil {
			rt.Fatal(err)
		}
		at := time.Unix(rapid.Int64Range(1.3e9, 2.1e9).Draw(rt, "from"), 0)
		seen := map[string]bool{}
		for range 40 {
			next := times.Next(at)
			if !next.After(at) || next.Sub(at) > 50*time.Hour {
				rt.Fatalf("after %s comes %s", at.In(place), next.In(place))
			}
			shown := next.In(place)
			// A day that is set forward over its midnight may begin late.
			if late := shown.Sub(time.Date(shown.Year(), shown.Month(), shown.Day(), hour, minute, 0, 0, place)); late != 0 && late.Abs() > 25*time.Hour {
				rt.Fatalf("at %s, not at %02d:%02d", shown, hour, minute)
			}
			if day := shown.Format(time.DateOnly); seen[day] {
				rt.Fatalf("twice on %s", day)
			} else {
				seen[day] = true
			}
			at = next
		}
	})
}

// TestTimesFromAnywhere: which time comes next does not depend on when is asked, so that who
// begins to look just after the clock was set misses nothing.
func TestTimesFromAnywhere(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		place := zone(t, rapid.SampledFrom([]string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Pacific/Apia", "UTC"}).Draw(rt, "zone"))
		times, err := ParseTimes(rapid.SampledFrom([]string{"30 2 * * *", "0,30 2 * * *", "15,40 2 * * *", "10 0-3 * * *", "*/20 1,2,3 * * *", "0 0 * * *", "45 1 * * 0"}).Draw(rt, "cron"), place)
		if err != nil {
			rt.Fatal(err)
		}
		from := time.Unix(rapid.Int64Range(1.3e9, 2.1e9).Draw(rt, "from"), 0)
		// Near a jump, if there is one within a year.
		if _, jump := from.In(place).ZoneBounds(); rapid.Bool().Draw(rt, "near") && !jump.IsZero() {
			from = jump.Add(-time.Duration(rapid.IntRange(0, 4*60).Draw(rt, "before")) * time.Minute)
		}
		next := times.Next(from)
		for at := from; at.Before(from.Add(30 * time.Hour)); at = at.Add(10 * time.Minute) {
			for !next.After(at) {
				next = times.Next(next)
			}
			if got := times.Next(at); !got.Equal(next) {
				rt.Fatalf("after %s comes %s, but from %s on it was %s", at.In(place), got.In(place), from.In(place), next.In(place))
			}
		}
	})
}

func TestTimesRefused(t *testing.T) {
	for _, text := range []string{"", "x", "* * * *", "* * * * * *", "61 * * * *", "@every 1h", "@reboot", "TZ=", "TZ=UTC 0 6 * * *", "CRON_TZ=x", "0 0 30 2 *", "*/0 * * * *", "5-1 * * * *", "@"} {
		if got, err := ParseTimes(text, time.UTC); err == nil {
			t.Errorf("%q is taken: %v", text, got.Next(time.Unix(0, 0)))
		}
	}
}

// FuzzTimes: whatever the text, it is refused, or its times come one after the other.
func FuzzTimes(f *testing.F) {
	for _, s := range []string{"0 6 * * *", "*/5 1-4,6 * jan mon", "@weekly", "TZ=UTC", "0 0 31 */2 ?", "0 0 29 2 *"} {
		f.Add(s)
	}
	berlin := zone(f, "Europe/Berlin")
	f.Fuzz(func(t *testing.T, s string) {
		times, err := ParseTimes(s, berlin)
		if err != nil {
			return
		}
		at := time.Date(2027, 3, 27, 0, 0, 0, 0, berlin)
		for range 10 {
			next := times.Next(at)
			if next.IsZero() {
				return
			}
			if !next.After(at) {
				t.Fatalf("%q: after %s comes %s", s, at, next)
			}
			at = next
		}
	})
}
