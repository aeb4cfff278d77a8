package server

import (
	"cmp"
	"context"
	"fmt"
	"html"
	"html/template"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/compliance"
	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/kernel/evr"
	"github.com/fleetd/fleetd/pkg/text"
)

const (
	// kernelsFor is how far back the page shows what hosts ran.
	kernelsFor = 90 * 24 * time.Hour
	// mostKernels is how many kernels have a colour of their own; the older ones share one.
	mostKernels = 4
)

// kernelDay is what the hosts of a fleet ran when it was last looked at on a day.
type kernelDay struct {
	At time.Time `json:"at"`
	// Hosts is how many run which kernel, as uname -r; of those under "" it is not known.
	Hosts map[string]int `json:"hosts"`
}

// kernelDays are those until a look.
func kernelDays(ctx context.Context, j *journal.Journal, last journal.Look) ([]kernelDay, error) {
	looks, err := j.DailyLooks(ctx, last.Fleet, last.At.Add(-kernelsFor), `"kernels":`)
	if err != nil {
		return nil, err
	}
	var out []kernelDay
	for _, l := range looks {
		if k := compliance.KernelsOf(l.About); len(k) > 0 {
			out = append(out, kernelDay{l.At, k})
		}
	}
	return out, nil
}

// kernelRow is a line of the legend: one kernel, or several that share a colour.
type kernelRow struct {
	Class, Name string
	// Hosts is how many run it at the last look.
	Hosts int
}

// kernelLegend are the kernels that were seen, the newest first, and then the hosts of
// which it is not known; class is the colour of each.
func kernelLegend(days []kernelDay) (rows []kernelRow, class map[string]string) {
	class = map[string]string{}
	for _, d := range days {
		for k := range d.Hosts {
			class[k] = ""
		}
	}
	releases := slices.SortedFunc(maps.Keys(class), func(a, b string) int {
		return cmp.Or(evr.CompareVersions(b, a), cmp.Compare(b, a)) // "" is the oldest
	})
	now := days[len(days)-1].Hosts
	for i, r := range releases {
		switch {
		case r == "":
			rows = append(rows, kernelRow{"none", "not known", 0})
		case i < mostKernels:
			rows = append(rows, kernelRow{fmt.Sprint("k", i), text.Printable(r), 0})
		case i == mostKernels:
			rows = append(rows, kernelRow{"older", text.Printable(r) + " and older", 0})
		}
		row := &rows[len(rows)-1]
		class[r] = row.Class
		row.Hosts += now[r]
	}
	return rows, class
}

// kernelChart is a column for each day, as high as its fleet, of the kernels that its
// hosts ran. The days keep their distances. What it ends with, the legend says in numbers.
func kernelChart(days []kernelDay) template.HTML {
	const width, height = 1000, 100
	rows, class := kernelLegend(days)
	first, last := days[0].At, days[len(days)-1].At
	span := max(last.Sub(first), 24*time.Hour)
	column := min(80, int(0.75*width/(span.Hours()/24+1)))
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="kernels" viewBox="0 0 %d %d" preserveAspectRatio="none" role="img" aria-label="%s">`, width, height,
		html.EscapeString(fmt.Sprintf("Kernels that the hosts ran, from %s to %s", first.Format(time.DateOnly), last.Format(time.DateOnly))))
	for _, d := range days {
		x := int(float64(d.At.Sub(first)) / float64(span) * float64(width-column))
		sum, of := 0, map[string]int{}
		for k, n := range d.Hosts {
			of[class[k]] += n
			sum += n
		}
		if sum == 0 {
			continue
		}
		at := 0
		for _, r := range rows { // the newest stands at the bottom, and rises
			from, to := at*height/sum, (at+of[r.Class])*height/sum
			if to > from {
				fmt.Fprintf(&b, `<rect class="%s" x="%d" y="%d" width="%d" height="%d"/>`, r.Class, x, height-to, column, to-from)
			}
			at += of[r.Class]
		}
	}
	fmt.Fprintf(&b, `</svg><p class="meta ends" aria-hidden="true"><span>%s</span><span>%s</span></p>`, first.Format(time.DateOnly), last.Format(time.DateOnly))
	return template.HTML(b.String()) //nolint:gosec // numbers, classes of this file, and dates
}
