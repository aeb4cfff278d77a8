package server

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func windowOf(t testing.TB, cron, place string, lasts time.Duration) Window {
	t.Helper()
	times, err := ParseTimes(cron, zone(t, place))
	if err != nil {
		t.Fatal(err)
	}
	return Window{times, lasts}
}

// TestWindow: the clock is set forward on 28 March 2027 at 2:00 in Berlin, and back on
// 31 October at 3:00; a window lasts as long as it lasts.
func TestWindow(t *testing.T) {
	const h = time.Hour
	night := windowOf(t, "0 22 * * 1-5", "Europe/Berlin", 6*h)
	for name, c := range map[string]struct {
		windows []Window
		reserve time.Duration
		at      string
		opens   string
		until   string
		already bool
	}{
		"before it":                           {[]Window{night}, 0, "2027-01-04T21:59:59+01:00", "2027-01-04T22:00:00+01:00", "2027-01-05T04:00:00+01:00", false},
		"at its begin":                        {[]Window{night}, 0, "2027-01-04T22:00:00+01:00", "2027-01-04T22:00:00+01:00", "2027-01-05T04:00:00+01:00", true},
		"in it":                               {[]Window{night}, 0, "2027-01-05T03:59:59+01:00", "2027-01-04T22:00:00+01:00", "2027-01-05T04:00:00+01:00", true},
		"at its end":                          {[]Window{night}, 0, "2027-01-05T04:00:00+01:00", "2027-01-05T22:00:00+01:00", "2027-01-06T04:00:00+01:00", false},
		"in its reserve":                      {[]Window{night}, h, "2027-01-05T03:00:00+01:00", "2027-01-05T22:00:00+01:00", "2027-01-06T03:00:00+01:00", false},
		"before the rest":                     {[]Window{night}, h, "2027-01-05T02:59:59+01:00", "2027-01-04T22:00:00+01:00", "2027-01-05T03:00:00+01:00", true},
		"the weekend":                         {[]Window{night}, 0, "2027-01-09T04:00:00+01:00", "2027-01-11T22:00:00+01:00", "2027-01-12T04:00:00+01:00", false},
		"the clock forward":                   {[]Window{windowOf(t, "0 1 * * *", "Europe/Berlin", 3*h)}, 0, "2027-03-28T01:30:00+01:00", "2027-03-28T01:00:00+01:00", "2027-03-28T05:00:00+02:00", true},
		"the clock back":                      {[]Window{windowOf(t, "0 1 * * *", "Europe/Berlin", 3*h)}, 0, "2027-10-31T01:30:00+02:00", "2027-10-31T01:00:00+02:00", "2027-10-31T03:00:00+01:00", true},
		"opens in the hour that is not there": {[]Window{windowOf(t, "30 2 * * *", "Europe/Berlin", h)}, 0, "2027-03-28T01:30:00+01:00", "2027-03-28T03:30:00+02:00", "2027-03-28T04:30:00+02:00", false},
		"overlapping":                         {[]Window{night, windowOf(t, "0 3 * * *", "Europe/Berlin", 2*h)}, 0, "2027-01-05T00:00:00+01:00", "2027-01-04T22:00:00+01:00", "2027-01-05T05:00:00+01:00", true},
		"touching":                            {[]Window{windowOf(t, "0 4 * * *", "Europe/Berlin", h), night}, 30 * time.Minute, "2027-01-05T03:50:00+01:00", "2027-01-04T22:00:00+01:00", "2027-01-05T04:30:00+01:00", true},
	} {
		t.Run(name, func(t *testing.T) {
			at, err := time.Parse(time.RFC3339, c.at)
			if err != nil {
				t.Fatal(err)
			}
			w := Fleet{Windows: c.windows, Reserve: c.reserve}.window(at)
			place := c.windows[0].Opens.Zone
			if got := w.until.In(place).Format(time.RFC3339); got != c.until || w.open(at) != c.already {
				t.Errorf("until %s, want %s; open: %v", got, c.until, w.open(at))
			}
			if got := w.opens.In(place).Format(time.RFC3339); !c.already && got != c.opens {
				t.Errorf("opens %s, want %s", got, c.opens)
			}
		})
	}
}

// TestWindowsProperties holds windows against a walk through every minute of two weeks
// around a day on which the clock is set.
func TestWindowsProperties(t *testing.T) {
	type place struct{ name, day string }
	places := []place{
		{"Europe/Berlin", "2027-03-28"}, {"Europe/Berlin", "2027-10-31"}, {"America/New_York", "2027-03-14"}, {"America/New_York", "2027-11-07"},
		{"Australia/Lord_Howe", "2027-04-04"}, {"Australia/Lord_Howe", "2027-10-03"}, {"America/Santiago", "2027-04-04"}, {"Asia/Kathmandu", "2027-03-28"},
	}
	rapid.Check(t, func(rt *rapid.T) {
		p := rapid.SampledFrom(places).Draw(rt, "place")
		day, err := time.ParseInLocation(time.DateOnly, p.day, zone(t, p.name))
		if err != nil {
			rt.Fatal(err)
		}
		const lead, span = 8 * 24 * 60, 16 * 24 * 60 // minutes; no window is longer than half of the lead
		from := day.Add(-lead * time.Minute)
		var f Fleet
		open := make([]bool, span)
		shortest := 4 * 24 * 60
		for range rapid.IntRange(1, 3).Draw(rt, "windows") {
			cron := fmt.Sprintf("%d %s * * %s", rapid.SampledFrom([]int{0, 30, 59}).Draw(rt, "minute"),
				rapid.SampledFrom([]string{"1", "2", "22", "*", "0-3", "*/6"}).Draw(rt, "hours"), rapid.SampledFrom([]string{"*", "6", "0", "1-5"}).Draw(rt, "days"))
			lasts := rapid.SampledFrom([]int{1, 30, 60, 61, 360, 1440, 1500}).Draw(rt, "minutes")
			w := windowOf(t, cron, p.name, time.Duration(lasts)*time.Minute)
			f.Windows, shortest = append(f.Windows, w), min(shortest, lasts)
			for o := w.Opens.Next(from.Add(-4 * 24 * time.Hour)); o.Before(from.Add(span * time.Minute)); o = w.Opens.Next(o) {
				for m := range lasts {
					if i := int(o.Sub(from)/time.Minute) + m; i >= 0 && i < span {
						open[i] = true
					}
				}
			}
		}
		reserve := rapid.IntRange(0, shortest-1).Draw(rt, "reserve")
		f.Reserve = time.Duration(reserve) * time.Minute
		// A minute allows of a begin where it and all of the reserve after it are open.
		allowed := func(i int) bool {
			for j := i; j <= i+reserve; j++ {
				if j >= span {
					rt.Skip("the walk is too short")
				}
				if !open[j] {
					return false
				}
			}
			return true
		}
		at := rapid.IntRange(0, span/2).Draw(rt, "at")
		w := f.window(from.Add(time.Duration(at)*time.Minute + 30*time.Second))
		if w.always || w.open(from.Add(time.Duration(at)*time.Minute+30*time.Second)) != allowed(at) {
			rt.Fatalf("%v: open is not %v: %+v", from.Add(time.Duration(at)*time.Minute), allowed(at), w)
		}
		i := at
		for !allowed(i) {
			i++
		}
		if want := from.Add(time.Duration(i) * time.Minute); i > at && !w.opens.Equal(want) {
			rt.Fatalf("opens %v, want %v", w.opens, want)
		}
		for allowed(i) {
			i++
		}
		if want := from.Add(time.Duration(i) * time.Minute); !w.until.Equal(want) {
			rt.Fatalf("until %v, want %v", w.until, want)
		}
	})
}

// TestApprovalHolds: for an hour of a window, and not beyond its end.
func TestApprovalHolds(t *testing.T) {
	opens := began
	for _, c := range []struct{ at, lasts, want time.Duration }{
		{-5 * time.Hour, 3 * time.Hour, time.Hour}, {0, 3 * time.Hour, time.Hour}, {time.Hour, 3 * time.Hour, 2 * time.Hour},
		{150 * time.Minute, 3 * time.Hour, 3 * time.Hour}, {-time.Minute, 30 * time.Minute, 30 * time.Minute},
	} {
		w := window{opens: opens, until: opens.Add(c.lasts)}
		if got := w.holds(opens.Add(c.at)).Sub(opens); got != c.want {
			t.Errorf("at %s it holds until %s, want %s", c.at, got, c.want)
		}
	}
	if got := (window{always: true}).holds(opens); !got.Equal(opens.Add(approvalLasts)) {
		t.Errorf("without windows: %v", got)
	}
}
