package server

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// axe-core is the checker of accessibility that browsers and others build upon; its
// rules are those of WCAG. The digest is that of axe.min.js in the package.
const (
	axePackage = "axe-core@4.10.3"
	axeDigest  = "880970c081707360e64f34cea25ff91892f5bc95675b0776925b9709dd8a68bb"
)

// axeCore fetches axe-core from npm.
func axeCore(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, args := range [][]string{{"npm", "pack", "--silent", axePackage}, {"sh", "-c", "exec tar -xzf *.tgz package/axe.min.js"}} {
		c := exec.CommandContext(t.Context(), args[0], args[1:]...)
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			t.Skipf("the pages are not checked for WCAG: %s cannot be had here (make setup installs npm, and it needs the network): %v\n%s", axePackage, err, out)
		}
	}
	script, err := os.ReadFile(filepath.Join(dir, "package", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(script); hex.EncodeToString(sum[:]) != axeDigest {
		t.Fatalf("%s has another axe.min.js: %x", axePackage, sum)
	}
	return string(script)
}

// violated is which rules of WCAG 2 at level AA, and of good practice, the page breaks,
// and where.
const violated = `axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"] }).then((r) =>
	r.violations.map((v) => v.id + " (" + v.help + "): " + v.nodes.slice(0, 3).map((n) => n.html.slice(0, 200) + " " + n.failureSummary).join("; ")).join("\n"))`

// TestAccessible has axe-core look at every page, on a desk's screen and on a
// telephone's, in the light and in the dark. What it does not show: how a page reads
// aloud, of which a machine finds a part.
func TestAccessible(t *testing.T) {
	axe := axeCore(t)
	b := newBrowser(t)
	dir := t.TempDir()
	rec := recordRun(t, dir, runID, fleet(40))
	rec.play(100, failing("worker03"))
	recordLook(t, dir, look{schedule: "prod", inventory: "prod.yaml", kernels: map[string]int{"6.1.4-1.el8.elrepo.x86_64": 2, "": 1}, at: began.Add(-24 * time.Hour)})
	recordLook(t, dir, look{schedule: "prod", inventory: "prod.yaml", kernels: map[string]int{"6.1.4-1.el8.elrepo.x86_64": 1, "6.1.9-1.el8.elrepo.x86_64": 1, "": 1}})
	recordLook(t, dir, look{inventory: "other.yaml", hosts: map[string]string{"n1": "compliant", "n2": "unknown", "n3": "waived"}, at: time.Now()})
	times, err := ParseTimes("0 6 * * *", time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, dir)
	s.fleets = []*scheduled{{Fleet: Fleet{Name: "prod", Inventory: "inventory.yaml", Times: times}}, {Fleet: Fleet{Name: "edge", Times: times}, failed: &failure{At: began, Error: "cannot read the inventory", Hint: "mend it"}}}
	for _, n := range []int{3, 4} {
		if w := post(s, "/api/v1/proposals", []string{operatorSecret, bothSecret}[n-3], planFile(t, fleet(n))); w.Code != http.StatusCreated {
			t.Fatalf("%d, %s", w.Code, w.Body)
		}
	}
	base := overNetwork(t, s)

	check := func(path, there string) {
		t.Helper()
		b.await(path, there)
		for _, width := range []int64{1280, 390} {
			for _, scheme := range []string{"light", "dark"} {
				var bad string
				b.do(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}), emulation.SetDeviceMetricsOverride(width, 844, 1, false),
					chromedp.Evaluate(axe+"\n0", nil),
					chromedp.Evaluate(violated, &bad, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
				if bad != "" {
					t.Errorf("%s at %d pixels in the %s:\n%s", path, width, scheme, bad)
				}
			}
		}
	}
	b.do(chromedp.Navigate(base + "/login"))
	check("/login", `document.querySelector("input")`)
	b.do(chromedp.Navigate(base + "/login?to=" + url.QueryEscape("/") + "#" + bothSecret))
	check("/", `location.pathname === "/" && document.querySelector("table")`)
	for _, path := range []string{"/runs/" + runID, "/runs/" + runID + "/plan", "/runs/" + runID + "/hosts/worker03", "/proposals", "/proposals/1", "/proposals/2", "/compliance", "/runs/gone"} {
		b.do(chromedp.Navigate(base + path))
		check(path, `location.pathname === "`+path+`"`)
	}
}
