package server

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// browser is a Chromium of one test, and what it complained of and asked for.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu         sync.Mutex
	complaints []string
	asked      []string
}

// newBrowser starts Debian's Chromium, which integration/setup.sh installs.
func newBrowser(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("no chromium here: make setup installs it")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1280, 900),
		chromedp.WSURLReadTimeout(2*time.Minute), chromedp.ModifyCmdFunc(func(cmd *exec.Cmd) {
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
			t.Cleanup(func() { endGroup(t, cmd) })
		}))
	ctx, stop := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewExecAllocator(ctx, opts...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	b := &browser{t: t, ctx: ctx}
	chromedp.ListenTarget(ctx, func(e any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch e := e.(type) {
		case *runtime.EventExceptionThrown:
			b.complaints = append(b.complaints, e.ExceptionDetails.Error())
		case *log.EventEntryAdded:
			b.complaints = append(b.complaints, e.Entry.Text+" "+e.Entry.URL)
		case *network.EventRequestWillBeSent:
			b.asked = append(b.asked, e.Request.URL)
		}
	})
	return b
}

// endGroup ends what a browser has started. Its processes outlive it for a moment, and
// write into the profile that is then being removed.
func endGroup(t *testing.T, cmd *exec.Cmd) {
	if cmd.Process == nil {
		return
	}
	group := cmd.Process.Pid
	_ = syscall.Kill(-group, syscall.SIGKILL) // it is gone already, or the look below tells
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		stats, err := filepath.Glob("/proc/[0-9]*/stat")
		if err != nil {
			t.Fatal(err)
		}
		alive := 0
		for _, path := range stats {
			stat, err := os.ReadFile(path)
			if err != nil {
				continue // it ended meanwhile
			}
			// proc(5): pid (comm) state ppid pgrp; whoever is init here may not reap.
			f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
			if f[0] != "Z" && f[2] == strconv.Itoa(group) {
				alive++
			}
		}
		if alive == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d processes of the browser are still there", alive)
		}
	}
}

func (b *browser) do(actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// await waits until an expression of JavaScript is true. While the browser goes from
// one page to the next there is nothing to ask.
func (b *browser) await(what, expression string) {
	b.t.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var is bool
		if err = chromedp.Run(b.ctx, chromedp.Evaluate("!!("+expression+")", &is)); err == nil && is {
			return
		}
		if b.ctx.Err() != nil {
			break
		}
	}
	var page string
	_ = chromedp.Run(b.ctx, chromedp.Evaluate("location.href + ' ' + document.body.innerText + (document.activeElement.value || '')", &page)) // for the message below
	b.t.Fatalf("waited in vain: %s: %v\n%.3000s", what, err, page)
}

// TestBrowser has a real Chromium watch a run to its end, read what failed, and
// find one of 5,000 hosts. What it does not show: other browsers, and nodes.
func TestBrowser(t *testing.T) {
	b := newBrowser(t)
	dir := t.TempDir()
	big := recordRun(t, dir, "20261127-000000-0001", fleet(5000))
	big.play(30, nil)
	if err := big.lock.Release(); err != nil {
		t.Fatal(err)
	}
	rec := recordRun(t, dir, runID, fleet(40))
	rec.play(20, failing("worker03"))
	base := overNetwork(t, serve(t, dir))

	// A link with the token logs in, and the token is gone from the address.
	b.do(network.Enable(), log.Enable(), chromedp.Navigate(base+"/login?to="+url.QueryEscape("/runs/"+runID)+"#"+viewerSecret))
	b.await("the page of the run", `location.pathname === "/runs/`+runID+`" && location.hash === "" && document.querySelector(".badge.running")`)
	b.await("a cell for each host", `document.querySelectorAll(".cells a").length === 41`)
	b.await("nothing is lost yet", `document.getElementById("lost").children.length === 0`)

	// The run goes on, and the page with it.
	rec.play(150, failing("worker03"))
	b.await("the lost host, first", `document.querySelector("#lost article h3").textContent.includes("worker03")`)
	b.await("its cell", `document.querySelector('.cells a[title="worker03: lost"]').classList.contains("l")`)
	b.await("what is under way", `document.querySelectorAll("#work tbody tr").length > 0`)
	for _, width := range []int64{1280, 390} {
		var wide float64
		b.do(emulation.SetDeviceMetricsOverride(width, 844, 1, false), chromedp.Evaluate("document.documentElement.scrollWidth", &wide))
		if wide > float64(width) {
			t.Errorf("at %d pixels it is %v wide", width, wide)
		}
	}
	b.do(emulation.ClearDeviceMetricsOverride())
	rec.play(1<<30, failing("worker03"))
	b.await("the end", `document.querySelector(".badge.done") && document.querySelector(".verdict").textContent.includes("1 host was lost: worker03")`)
	b.await("what to type", `document.querySelector("#next code").textContent === "fleetd runs show `+runID+`"`)

	// By the keyboard: to the cells, along them, and to a host's story.
	b.do(chromedp.Focus(".batch:nth-of-type(2) .cells a", chromedp.ByQuery), chromedp.KeyEvent(kb.ArrowRight))
	b.await("the next cell", `document.activeElement.title === "worker03: lost"`)
	b.do(chromedp.KeyEvent(kb.Enter))
	b.await("the story of worker03", `location.pathname.endsWith("/hosts/worker03") && document.querySelector("pre").textContent.includes("came back on 4.18.0-553")`)

	// One of 5,000.
	b.do(chromedp.Navigate(base + "/runs/20261127-000000-0001"))
	b.await("5,000 cells", `document.querySelectorAll(".play")[0].querySelectorAll(".cells a").length === 5000`)
	// Sent as one: chromedp would send the letter after the key that the page took.
	b.do(chromedp.Evaluate(`document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "/", bubbles: true }))`, nil))
	b.await("the field", `document.activeElement.id === "q"`)
	b.do(chromedp.KeyEvent("worker4999"))
	b.await("one is found", `document.getElementById("matches").textContent === "1 host" && document.querySelectorAll(".cells a:not(.out)").length === 1`)
	b.do(chromedp.KeyEvent(kb.Enter))
	b.await("it is listed", `document.querySelectorAll(".found tbody tr").length === 1`)

	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.complaints) > 0 {
		t.Errorf("the browser complains:\n%s", strings.Join(b.complaints, "\n"))
	}
	for _, u := range b.asked {
		if !strings.HasPrefix(u, base+"/") {
			t.Errorf("a request leaves the server: %s", u)
		}
	}
	if len(b.asked) < 8 {
		t.Error(fmt.Sprint("few requests were seen: ", b.asked))
	}
}

// TestBrowserCompliance has a real Chromium show the page on which fleets stand, as wide
// as a desk's screen and as a telephone, in the light and in the dark.
func TestBrowserCompliance(t *testing.T) {
	b := newBrowser(t)
	dir := t.TempDir()
	recordLook(t, dir, look{schedule: "prod", inventory: "/etc/fleetd/" + strings.Repeat("long", 30) + ".yaml", text: strings.Repeat("uptime", 30)})
	recordLook(t, dir, look{inventory: "other.yaml", hosts: map[string]string{"n1": "compliant", "n2": "unknown", "n3": "waived"}, at: time.Now()})
	times, err := ParseTimes("0 6 * * *", time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, dir)
	s.fleets = []*scheduled{{Fleet: Fleet{Name: "prod", Times: times}}, {Fleet: Fleet{Name: "edge", Times: times}, failed: &failure{At: began, Error: "cannot read the inventory", Hint: "mend it"}}}
	b.do(log.Enable(), chromedp.Navigate(overNetwork(t, s)+"/login?to="+url.QueryEscape("/compliance")+"#"+viewerSecret))
	b.await("three fleets", `location.pathname === "/compliance" && document.querySelectorAll("section.fleet").length === 3`)
	for _, width := range []int64{1280, 390} {
		var wide float64
		b.do(emulation.SetDeviceMetricsOverride(width, 844, 1, false), chromedp.Evaluate("document.documentElement.scrollWidth", &wide))
		if wide > float64(width) {
			t.Errorf("at %d pixels it is %v wide", width, wide)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.complaints) > 0 {
		t.Errorf("the browser complains:\n%s", strings.Join(b.complaints, "\n"))
	}
}

// TestBrowserPause has an operator pause a run on its page, and the page follow it to
// where nothing is left to stop.
func TestBrowserPause(t *testing.T) {
	b := newBrowser(t)
	dir := t.TempDir()
	rec := recordRun(t, dir, runID, fleet(40))
	rec.play(20, failing("worker03"))
	base := overNetwork(t, serve(t, dir))
	b.do(log.Enable(), chromedp.Navigate(base+"/login?to="+url.QueryEscape("/runs/"+runID)+"#"+operatorSecret))
	b.await("the controls", `document.querySelector("#controls:not([hidden]) button").textContent === "Pause"`)
	b.do(chromedp.Click("#controls summary", chromedp.ByQuery))
	done := rec.hear(rec.take)
	b.do(chromedp.SendKeys("#pause-reason", "the storage is slow"+kb.Enter, chromedp.ByQuery))
	<-done
	b.await("that it is asked for", `document.querySelector(".verdict").textContent.includes("A pause was asked for by otto: the storage is slow")`)
	rec.add(time.Second, rollout.Event{Type: rollout.RunInterrupted})
	b.await("the end", `document.querySelector(".badge.interrupted") && document.getElementById("controls").hidden`)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.complaints) > 0 {
		t.Errorf("the browser complains:\n%s", strings.Join(b.complaints, "\n"))
	}
}
