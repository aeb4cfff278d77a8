package journal

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// TestBeside follows a run while another Journal writes it, in the way of a
// process that looks on for long.
func TestBeside(t *testing.T) {
	dir := t.TempDir()
	writes := mustOpen(t, dir)
	events := wholeRun(t, newPlan(t, 40, 3))
	w := begin(t, writes, "r")
	mustAppend(t, w, events[0])

	j, err := OpenBeside(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	var got []rollout.Event
	for n := 1; n < len(events); n += 50 {
		mustAppend(t, w, events[n:min(n+50, len(events))]...)
		for {
			more, err := j.After(t.Context(), "r", int64(len(got)), 7)
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, more...); len(more) < 7 {
				break
			}
		}
		heads, err := j.Heads(t.Context())
		if err != nil || len(heads) != 1 || heads[0].ID != "r" || heads[0].Seq != int64(len(got)) || !heads[0].Started.Equal(start) {
			t.Fatalf("heads %+v, %v; %d events were read", heads, err, len(got))
		}
	}
	if d := cmp.Diff(events, got); d != "" {
		t.Error(d)
	}
	if _, err := j.After(t.Context(), "x", 0, 7); err == nil {
		t.Error("events of a run that is not there")
	}
	if j.Outdated() {
		t.Error("the file is as it was")
	}
	if err := os.Rename(filepath.Join(dir, fileName), filepath.Join(dir, "old")); err != nil {
		t.Fatal(err)
	}
	if !j.Outdated() {
		t.Error("the file is there")
	}
	if err := os.WriteFile(filepath.Join(dir, fileName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !j.Outdated() {
		t.Error("another file is there")
	}
}

// TestBesideABeginner: a file in which there are no tables yet, or those of an
// earlier fleetd, is opened again until it is as this fleetd writes it.
func TestBesideABeginner(t *testing.T) {
	empty := t.TempDir()
	if err := os.WriteFile(filepath.Join(empty, fileName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	old := t.TempDir()
	if err := earlier(t, old).Close(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{empty, old} {
		j, err := OpenBeside(dir)
		if err != nil {
			t.Fatal(err)
		}
		if !j.Outdated() {
			t.Error("nobody has written to it, and it is up to date")
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		begin(t, mustOpen(t, dir), "r")
		if j, err = OpenBeside(dir); err != nil {
			t.Fatal(err)
		}
		if heads, err := j.Heads(t.Context()); err != nil || j.Outdated() || len(heads) == 0 || heads[0].ID != "r" {
			t.Errorf("%v, %v, outdated: %v", heads, err, j.Outdated())
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBesideNeedsTheLock: what cannot be followed is not opened to be followed.
func TestBesideNeedsTheLock(t *testing.T) {
	dir := t.TempDir()
	if err := mustOpen(t, dir).Close(); err != nil {
		t.Fatal(err)
	}
	protect(t, dir)
	asNobody(t, func() {
		_, err := OpenBeside(dir)
		wantError(t, err, "cannot open the journal "+dir)
	})
}

func TestOfHost(t *testing.T) {
	j := mustOpen(t, t.TempDir())
	events := wholeRun(t, newPlan(t, 3, 2))
	record(t, j, "r", events)
	host := events[1].Step.Host
	var want, got []rollout.Event
	for _, e := range events {
		if e.Step != nil && e.Step.Host == host {
			want = append(want, e)
		}
	}
	if err := j.OfHost(t.Context(), "r", host, func(e rollout.Event) error { got = append(got, e); return nil }); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" || len(got) < 3 {
		t.Error(d)
	}
}
