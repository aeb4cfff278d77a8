package server

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestKernels: the page shows what the hosts of a fleet ran, day by day, and what they
// run now; the API has the numbers.
func TestKernels(t *testing.T) {
	dir := t.TempDir()
	day := func(n int, kernels map[string]int) {
		recordLook(t, dir, look{at: began.Add(time.Duration(n) * 24 * time.Hour), kernels: kernels})
	}
	const old, mid, now = "3.10.0-1160.el7.x86_64", "6.1.9-1.el7.elrepo.x86_64", "6.1.10-1.el7.elrepo.x86_64"
	day(-100, map[string]int{"2.6.32": 300}) // before what is shown
	day(0, map[string]int{old: 300})
	day(1, map[string]int{old: 200, mid: 98, "": 2})
	day(2, nil)                                                                                               // an earlier fleetd's, or with --limit
	recordLook(t, dir, look{at: began.Add(3*24*time.Hour - 20*time.Hour), kernels: map[string]int{mid: 300}}) // the same day, earlier
	day(3, map[string]int{old: 10, mid: 40, now: 247, "": 3})
	s := serve(t, dir)
	page := get(t, s, "/compliance").Body.String()
	last := 0
	for _, want := range []string{
		`aria-label="Kernels that the hosts ran, from ` + began.UTC().Format(time.DateOnly),
		`class="k0" width="10" height="10"/></svg> ` + now + " <strong>247</strong>",
		`class="k1" width="10" height="10"/></svg> ` + mid + " <strong>40</strong>",
		`class="k2" width="10" height="10"/></svg> ` + old + " <strong>10</strong>",
		`class="none" width="10" height="10"/></svg> not known <strong>3</strong>`,
	} {
		at := strings.Index(page, want)
		if at < last {
			t.Errorf("not there, or not in its place: %s", want)
		}
		last = max(last, at)
	}
	if n := strings.Count(page, `<rect class="k2" x="0" `); n != 1 || strings.Contains(page, "2.6.32") {
		t.Errorf("%d first columns of %s, or more than 90 days:\n%s", n, old, page)
	}
	if metrics := get(t, s, "/metrics").Body.String(); !strings.Contains(metrics, `kernel="`+now+`"`) || !strings.Contains(metrics, `kernel=""`) {
		t.Error(metrics)
	}
	api := get(t, s, "/api/v1/compliance")
	if api.Code != http.StatusOK || !strings.Contains(api.Body.String(), `"`+now+`":247`) {
		t.Errorf("%d %s", api.Code, api.Body)
	}
}

// TestKernelLegend: kernels beyond those with a colour share one, and each column of
// the chart is full, whatever the numbers are.
func TestKernelLegend(t *testing.T) {
	day := kernelDay{At: began, Hosts: map[string]int{"": 1, "<b>\x1b": 1}}
	for i := range 30 {
		day.Hosts[fmt.Sprintf("6.%d.0-1.el9.elrepo.x86_64", i)] = i * 7 % 5
	}
	rows, class := kernelLegend([]kernelDay{day})
	hosts, sum := 0, 0
	for _, r := range rows {
		hosts += r.Hosts
	}
	for k, n := range day.Hosts {
		sum += n
		if class[k] == "" {
			t.Errorf("%q has no colour", k)
		}
	}
	if len(rows) != mostKernels+2 || rows[0].Name != "6.29.0-1.el9.elrepo.x86_64" || rows[mostKernels].Name != "6.25.0-1.el9.elrepo.x86_64 and older" || hosts != sum {
		t.Errorf("%d hosts of %d: %+v", hosts, sum, rows)
	}
	chart := string(kernelChart([]kernelDay{day, {At: began.Add(time.Hour)}}))
	height := 0
	for _, rect := range strings.Split(chart, "<rect ")[1:] {
		var h int
		if _, err := fmt.Sscanf(rect[strings.Index(rect, "height="):], `height="%d"`, &h); err != nil {
			t.Fatal(err)
		}
		height += h
	}
	if height != 100 || strings.Contains(chart, "<b>") {
		t.Errorf("a column of %d: %s", height, chart)
	}
}
