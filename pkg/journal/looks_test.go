package journal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fleetd/fleetd/pkg/rollout"
)

var firstLook = time.Date(2026, 11, 1, 6, 0, 0, 0, time.UTC)

// look records what a fleet showed on a day: "n1 uptime=drift" and so on.
func look(t *testing.T, j *Journal, day int, keep time.Duration, over func(string) bool, said ...string) []rollout.Ruling {
	t.Helper()
	var rulings []rollout.Ruling
	for _, s := range said {
		host, rest, _ := strings.Cut(s, " ")
		rule, status, _ := strings.Cut(rest, "=")
		rulings = append(rulings, rollout.Ruling{Host: host, Policy: "p", Rule: rule, Status: status, Text: fmt.Sprintf("day %d", day)})
	}
	at := firstLook.AddDate(0, 0, day)
	if err := j.Judged(t.Context(), Look{Name: fmt.Sprint("look", day), Fleet: "f", At: at, Title: "all", Status: "drift", Hosts: 2}, rulings, over, keep); err != nil {
		t.Fatal(err)
	}
	return rulings
}

// stands is a look as the journal remembers it.
func stands(t *testing.T, j *Journal, name string) []string {
	t.Helper()
	all, err := j.Rulings(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range all {
		out = append(out, fmt.Sprintf("%s %s=%s since %s, %s", r.Host, r.Rule, r.Status, r.Since.Format(time.DateOnly), r.Text))
	}
	slices.Sort(out)
	return out
}

func every(string) bool { return true }

const ever = 1000 * 24 * time.Hour

func TestLooks(t *testing.T) {
	j, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	look(t, j, 0, ever, every, "n1 up=drift", "n2 up=compliant")
	second := look(t, j, 1, ever, every, "n1 up=drift", "n2 up=drift")
	if !second[0].Since.Equal(firstLook) || !second[1].Since.Equal(firstLook.AddDate(0, 0, 1)) {
		t.Errorf("since %v and %v", second[0].Since, second[1].Since)
	}
	// n1 cannot be read: what is known of it stands. n2 is not asked for up any more.
	look(t, j, 2, ever, func(h string) bool { return h != "n1" }, "n2 age=drift")
	look(t, j, 3, ever, every, "n1 up=drift", "n2 age=drift", "n2 up=drift")
	want := map[string][]string{
		"look0": {"n1 up=drift since 2026-11-01, day 0", "n2 up=compliant since 2026-11-01, day 0"},
		"look1": {"n1 up=drift since 2026-11-01, day 0", "n2 up=drift since 2026-11-02, day 1"},
		"look2": {"n1 up=drift since 2026-11-01, day 0", "n2 age=drift since 2026-11-03, day 2"},
		"look3": {"n1 up=drift since 2026-11-01, day 0", "n2 age=drift since 2026-11-03, day 2", "n2 up=drift since 2026-11-04, day 3"},
	}
	for name, w := range want {
		if d := cmp.Diff(w, stands(t, j, name)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	if _, err := j.Rulings(t.Context(), "look9"); !errors.Is(err, ErrNoLook) {
		t.Errorf("a look that is not there: %v", err)
	}
	looks, err := j.Looks(t.Context(), "f", 2)
	if err != nil || len(looks) != 2 || looks[0].Name != "look3" || !looks[0].At.Equal(firstLook.AddDate(0, 0, 3)) || looks[0].Hosts != 2 {
		t.Errorf("%+v, %v", looks, err)
	}
	if other, err := j.Looks(t.Context(), "another", 0); err != nil || len(other) != 0 {
		t.Errorf("another fleet has %v, %v", other, err)
	}
}

// TestLooksAtOnce: of looks at the same time none is lost, and since is the earliest.
func TestLooksAtOnce(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			j, err := Open(dir)
			if err != nil {
				t.Error(err)
				return
			}
			defer j.Close()
			rulings := []rollout.Ruling{{Host: "n1", Policy: "p", Rule: "up", Status: "drift"}}
			l := Look{Name: fmt.Sprint("look", i), Fleet: "f", At: firstLook.AddDate(0, 0, i)}
			if err := j.Judged(t.Context(), l, rulings, every, ever); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	j, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	looks, err := j.Looks(t.Context(), "f", 0)
	if err != nil || len(looks) != 6 {
		t.Fatalf("%v, %v", looks, err)
	}
	var rows int
	if err := j.db.QueryRow("SELECT count(*) FROM rulings").Scan(&rows); err != nil || rows != 1 {
		t.Errorf("%d rows, %v", rows, err)
	}
	r, err := j.Rulings(t.Context(), looks[0].Name)
	if err != nil || len(r) != 1 || !r[0].Since.Equal(looks[5].At) {
		t.Errorf("%+v, the first look was at %v, %v", r, looks[5].At, err)
	}
}

// TestLooksReadOnly: a journal from before has no looks, and one that is only read shows them.
func TestLooksReadOnly(t *testing.T) {
	dir := t.TempDir()
	j, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	look(t, j, 0, ever, every, "n1 up=drift")
	defer j.Close()
	r, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if d := cmp.Diff([]string{"n1 up=drift since 2026-11-01, day 0"}, stands(t, r, "look0")); d != "" {
		t.Error(d)
	}
	if _, err := j.conn.ExecContext(context.Background(), "DROP TABLE looks; DROP TABLE rulings; PRAGMA user_version = 2"); err != nil {
		t.Fatal(err)
	}
	before, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	if looks, err := before.Looks(t.Context(), "", 0); err != nil || len(looks) != 0 {
		t.Errorf("%v, %v", looks, err)
	}
	if runs, err := before.Runs(t.Context()); err != nil || len(runs) != 0 {
		t.Errorf("runs of a journal of schema 2: %v, %v", runs, err)
	}
}

// TestLooksAreForgotten: whatever was looked at, what is kept reads the same with and
// without the looks that were dropped, and only changes take a row.
func TestLooksAreForgotten(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		short, err := Open(t.TempDir())
		if err != nil {
			rt.Fatal(err)
		}
		defer short.Close()
		long, err := Open(t.TempDir())
		if err != nil {
			rt.Fatal(err)
		}
		defer long.Close()
		days := rapid.IntRange(1, 12).Draw(rt, "days")
		keep := time.Duration(rapid.IntRange(1, 6).Draw(rt, "keep")) * 24 * time.Hour
		changes, last := 0, map[string]string{}
		for day := range days {
			var said []string
			now := map[string]string{}
			for _, k := range []string{"n1 up", "n1 age", "n2 up"} {
				if s := rapid.SampledFrom([]string{"", "drift", "compliant", "drift"}).Draw(rt, k); s != "" {
					said = append(said, k+"="+s)
					now[k] = s
				}
			}
			for _, k := range []string{"n1 up", "n1 age", "n2 up"} {
				if now[k] != last[k] {
					changes++
				}
			}
			last = now
			look(t, short, day, keep, every, said...)
			look(t, long, day, ever, every, said...)
		}
		var rows int
		if err := long.db.QueryRow("SELECT count(*) FROM rulings").Scan(&rows); err != nil || rows != changes {
			rt.Fatalf("%d rows for %d changes, %v", rows, changes, err)
		}
		kept, err := short.Looks(t.Context(), "f", 0)
		if err != nil {
			rt.Fatal(err)
		}
		if want := min(days, max(2, int(keep/(24*time.Hour))+1)); len(kept) != want {
			rt.Fatalf("%d looks are kept, not %d", len(kept), want)
		}
		for _, l := range kept {
			if d := cmp.Diff(stands(t, long, l.Name), stands(t, short, l.Name)); d != "" {
				rt.Fatalf("%s reads otherwise without the looks before: %s", l.Name, d)
			}
		}
		// Nothing is kept that no look needs.
		needed := map[string]bool{}
		for _, l := range kept {
			for _, s := range stands(t, short, l.Name) {
				needed[s] = true
			}
		}
		var told int
		if err := short.db.QueryRow("SELECT count(*) FROM rulings WHERE status != ''").Scan(&told); err != nil || told != len(slices.Collect(maps.Keys(needed))) {
			rt.Fatalf("%d rows, and %d are needed, %v", told, len(needed), err)
		}
	})
}

// TestLooksOfEarlierSchema: what an earlier fleetd has found is read as it is, and is
// there when the file is brought up to date.
func TestLooksOfEarlierSchema(t *testing.T) {
	dir := t.TempDir()
	j, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	look(t, j, 0, ever, every, "n1 up=drift")
	db := raw(t, dir)
	rawExec(t, db, "ALTER TABLE looks DROP COLUMN about; ALTER TABLE looks DROP COLUMN schedule; DROP TABLE proposals; DROP TABLE requests; DROP INDEX events_of_run; DROP TABLE notices; DROP TABLE marks; DROP TABLE dropped; DROP TABLE resumptions; PRAGMA user_version = 3")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func(string) (*Journal, error){"1, read": OpenBeside, "2, brought up to date": Open} {
		j, err := open(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, ask := range []func() ([]Look, error){
			func() ([]Look, error) { return j.Looks(t.Context(), "f", 0) },
			func() ([]Look, error) { return j.LastLooks(t.Context()) },
		} {
			if got, err := ask(); err != nil || len(got) != 1 || got[0].Name != "look0" || len(got[0].About) > 0 {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		}
		if got, err := j.LastScheduled(t.Context(), "prod"); got != nil || err != nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLastLooks keeps fleets apart, and tells what a schedule has asked for from what
// somebody has.
func TestLastLooks(t *testing.T) {
	j, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for i, l := range []Look{
		{Fleet: "a", Schedule: "prod", About: []byte(`{"x":1}`)}, {Fleet: "b", Schedule: "test"}, {Fleet: "a"}, {Fleet: "b", Schedule: "test"},
	} {
		l.Name, l.At = fmt.Sprint("look", i), firstLook.Add(time.Duration(i)*time.Hour)
		if err := j.Judged(t.Context(), l, nil, every, ever); err != nil {
			t.Fatal(err)
		}
	}
	last, err := j.LastLooks(t.Context())
	if err != nil || len(last) != 2 || last[0].Name != "look3" || last[1].Name != "look2" {
		t.Errorf("%+v, %v", last, err)
	}
	if l, err := j.LastScheduled(t.Context(), "prod"); err != nil || l.Name != "look0" || string(l.About) != `{"x":1}` {
		t.Errorf("%+v, %v", l, err)
	}
}
