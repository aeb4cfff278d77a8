package playbook

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
	"github.com/fleetd/fleetd/pkg/rollout"
)

func TestMaxUnavailable(t *testing.T) {
	for _, c := range []struct {
		play  string // what the play has beside its hosts
		hosts int
		extra map[string]any
		want  int
	}{
		{play: "", hosts: 20, want: 0},
		{play: "vars: {max_unavailable: }", hosts: 20, want: 0},
		{play: "vars: {max_unavailable: 3}", hosts: 20, want: 3},
		{play: `vars: {max_unavailable: "3"}`, hosts: 20, want: 3},
		{play: `vars: {max_unavailable: "15%"}`, hosts: 20, want: 3},
		{play: `vars: {max_unavailable: "29%"}`, hosts: 100, want: 28}, // as serial rounds
		{play: `vars: {max_unavailable: "1%"}`, hosts: 20, want: 1},
		{play: `vars: {max_unavailable: "300%"}`, hosts: 20, want: 20},
		{play: "vars: {max_unavailable: 21}", hosts: 20, want: 20},
		{play: `vars: {max_unavailable: "{{ share }}%", share: 50}`, hosts: 20, want: 10},
		{play: `vars: {max_unavailable: "{{ groups['all'] | length // 4 }}"}`, hosts: 20, want: 5},
		{play: "vars: {max_unavailable: 3}", hosts: 20, extra: map[string]any{"max_unavailable": "10%"}, want: 2},
		{play: "", hosts: 20, extra: map[string]any{"max_unavailable": int64(4)}, want: 4},
		{play: "vars: {max_unavailable: 3}\n  vars_files: [sizes.yml]", hosts: 20, want: 7},
		{play: "vars: {max_unavailable: 3}\n  serial: [1, '50%']", hosts: 20, want: 3},
	} {
		d, err := compileWindow(t, "strategy: free\n  "+c.play, c.hosts, c.extra)
		if err != nil {
			t.Errorf("%s, %v: %v", c.play, c.extra, err)
			continue
		}
		if got := d.Plays[0].MaxUnavailable; got != c.want {
			t.Errorf("%s of %d hosts, %v: got %d, want %d", c.play, c.hosts, c.extra, got, c.want)
		}
	}
}

// compileWindow compiles a play with more keys.
func compileWindow(t *testing.T, keys string, hosts int, extra map[string]any) (rollout.Desired, error) {
	t.Helper()
	text := fmt.Sprintf("- hosts: all\n  %s\n  tasks: [{fleetd.kernel.default: }]\n", keys)
	pb, err := loadFiles(map[string]string{"site.yml": text, "sizes.yml": "max_unavailable: 7\n"}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	d, _, err := pb.Compile(&fakeInventory{hosts: hostNames(hosts)}, testModules, CompileOptions{ExtraVars: vars(extra)})
	return d, err
}

// TestMaxUnavailableBesideSerial: batches stay as serial makes them.
func TestMaxUnavailableBesideSerial(t *testing.T) {
	d, err := compileWindow(t, "strategy: free\n  serial: [1, 5]\n  vars: {max_unavailable: 2}", 11, nil)
	if err != nil {
		t.Fatal(err)
	}
	if p := d.Plays[0]; len(p.Batches) != 3 || len(p.Batches[1]) != 5 || p.MaxUnavailable != 2 {
		t.Errorf("got %v and a window of %d", p.Batches, p.MaxUnavailable)
	}
}

// TestMaxUnavailableOfTheCommandLine: it is for all plays of the run. Those that
// take one host at a time take it under linear, too; the error about another one
// stands at the play.
func TestMaxUnavailableOfTheCommandLine(t *testing.T) {
	extra := map[string]any{"max_unavailable": "2"}
	d, err := compileWindow(t, "serial: 1", 3, extra)
	if err != nil || d.Plays[0].MaxUnavailable != 2 {
		t.Errorf("got %v, %v", d.Plays, err)
	}
	for _, c := range []struct {
		keys, value string
		want        []string
	}{
		{"serial: 2", "2", []string{"site.yml:1:3: max_unavailable needs strategy: free", "\nunder linear"}},
		{"serial: 2\n  vars: {max_unavailable: 1}", "2", []string{"site.yml:1:3: max_unavailable needs"}},
		{"strategy: free", "0", []string{"site.yml:1:3: max_unavailable: 0 takes no host", "\nit is a number"}},
		{"strategy: free", "{{ other }}", []string{`site.yml:1:3: max_unavailable: "other" is undefined`, "\nthis is resolved before"}},
	} {
		_, err := compileWindow(t, c.keys, 3, map[string]any{"max_unavailable": c.value})
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s, %s: got %v, want %q", c.keys, c.value, err, want)
			}
		}
	}
	// What a vault holds is not shown.
	_, err = compileWindow(t, "strategy: free", 3, map[string]any{"max_unavailable": jinja.Opaque{Err: errors.New("sealed")}})
	if err == nil || !strings.Contains(err.Error(), "site.yml:1:3: max_unavailable: sealed") {
		t.Errorf("got %v", err)
	}
}
