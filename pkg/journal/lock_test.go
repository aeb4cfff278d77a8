package journal

import (
	"errors"
	"os"
	"regexp"
	"strconv"
	"sync"
	"testing"
)

func TestLock(t *testing.T) {
	dir := t.TempDir()
	holds := func(wantRun string, wantHeld bool) {
		t.Helper()
		if run, held, err := Holder(dir); run != wantRun || held != wantHeld || err != nil {
			t.Errorf("holder %q, %v, %v", run, held, err)
		}
	}
	holds("", false)
	l, err := Acquire(dir, "r1")
	if err != nil {
		t.Fatal(err)
	}
	holds("r1", true)
	_, err = Acquire(dir, "r2")
	want := regexp.MustCompile(`^another run is under way: run r1, process ` + strconv.Itoa(os.Getpid()) + `, since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d$`)
	if !errors.Is(err, ErrLocked) || !want.MatchString(err.Error()) {
		t.Errorf("second lock: %v", err)
	}
	holds("r1", true)
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	holds("", false)
	if l, err = Acquire(dir, "a longer name"); err != nil {
		t.Fatal(err)
	}
	holds("a longer name", true)
	// An earlier fleetd writes another text.
	if err := os.WriteFile(l.f.Name(), []byte("run r, pid 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	holds("", true)
	if _, err := Acquire(dir, "r3"); !errors.Is(err, ErrLocked) {
		t.Errorf("second lock: %v", err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	if l, err = Acquire(dir, "r3"); err != nil {
		t.Fatal(err)
	}
	holds("r3", true)
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
}

// Who asks for the holder keeps no run from starting.
func TestHolderDoesNotTake(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if _, _, err := Holder(dir); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	for range 3000 {
		l, err := Acquire(dir, "r")
		if err != nil {
			t.Error(err)
			break
		}
		if err := l.Release(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
}

// TestUnderWay: a run that began or ended while it was read is no run that was cut
// off.
func TestUnderWay(t *testing.T) {
	dir := t.TempDir()
	says := func(ask func(string) (bool, error), run string) bool {
		t.Helper()
		yes, err := ask(run)
		if err != nil {
			t.Fatal(err)
		}
		return yes
	}
	before := UnderWay(dir)
	l, err := Acquire(dir, "r")
	if err != nil {
		t.Fatal(err)
	}
	during := UnderWay(dir)
	if !says(before, "r") || !says(during, "r") || says(during, "other") {
		t.Error("a run that began meanwhile, or is under way, is not; or another one is")
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	if !says(during, "r") || says(UnderWay(dir), "r") || says(before, "r") {
		t.Error("a run that ended meanwhile is not under way, or is still afterwards")
	}
}
