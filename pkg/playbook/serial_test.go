package playbook

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func parseSizes(t *testing.T, items []any) []size {
	t.Helper()
	var out []size
	for _, v := range items {
		if f, ok := v.(float64); ok {
			v = int64(f)
		}
		s, err := parseSize(v)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	return out
}

func hostNames(n int) []string {
	hosts := make([]string, n)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("h%04d", i)
	}
	return hosts
}

// TestBatchesAsAnsible holds the sizes of batches against those that Ansible
// itself made of the same serial (testdata/serial.py).
func TestBatchesAsAnsible(t *testing.T) {
	b, err := os.ReadFile("testdata/serial.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Hosts  int
		Serial []any
		Sizes  []int
	}
	if err := json.Unmarshal(b, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) < 800 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, c := range cases {
		got := []int{}
		for _, b := range batches(hostNames(c.Hosts), parseSizes(t, c.Serial)) {
			got = append(got, len(b))
		}
		if d := cmp.Diff(c.Sizes, got); d != "" {
			t.Errorf("%d hosts, serial %v (-Ansible +fleetd)\n%s", c.Hosts, c.Serial, d)
		}
	}
}

// TestEveryHostInOneBatch: whatever serial says, each host is in exactly one
// batch, in the order given, and no batch is empty.
func TestEveryHostInOneBatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hosts := hostNames(rapid.IntRange(0, 300).Draw(t, "hosts"))
		sizes := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) size {
			return size{rapid.Int64Range(-5, 400).Draw(t, "n"), rapid.Bool().Draw(t, "percent")}
		}), 0, 5).Draw(t, "serial")
		got := batches(hosts, sizes)
		for i, b := range got {
			if len(b) == 0 {
				t.Fatalf("batch %d is empty", i)
			}
			if i < len(sizes) && !sizes[i].percent && sizes[i].n > 0 && int64(len(b)) > sizes[i].n {
				t.Fatalf("batch %d has %d hosts, serial allows %d", i, len(b), sizes[i].n)
			}
		}
		if all := slices.Concat(got...); !slices.Equal(all, hosts) {
			t.Fatalf("got %v, want %v", all, hosts)
		}
	})
}

func TestParseSizeRefuses(t *testing.T) {
	for _, v := range []any{"ten", "10 hosts", "5%%", "", "%", 2.5, true, []any{}, nil, "99999999999999999999"} {
		if s, err := parseSize(v); err == nil {
			t.Errorf("%v: got %v", v, s)
		}
	}
}

// TestKnowsAnsiblesKeywords: every keyword that Ansible takes is known in its
// place, so that the message says "not supported yet" and not "unknown"; and
// fleetd supports none that Ansible does not have.
func TestKnowsAnsiblesKeywords(t *testing.T) {
	b, err := os.ReadFile("testdata/keywords.json")
	if err != nil {
		t.Fatal(err)
	}
	var ansible map[string][]string
	if err := json.Unmarshal(b, &ansible); err != nil {
		t.Fatal(err)
	}
	for _, k := range []keywords{playKeywords, blockKeywords, taskKeywords, importPlaybookKeywords} {
		names := ansible[k.place]
		if len(names) < 20 {
			t.Fatalf("%s: only %d keywords", k.place, len(names))
		}
		for _, name := range names {
			if !k.known(name) {
				t.Errorf("%s: %s is not known", k.place, name)
			}
			if why, supported := k.refuse(name); !supported && why == "" {
				t.Errorf("%s: no reason against %s", k.place, name)
			}
		}
		for _, name := range k.supported() {
			if !slices.Contains(names, name) && name != "ansible.builtin.import_playbook" {
				t.Errorf("%s: fleetd takes %s, which Ansible does not", k.place, name)
			}
		}
	}
}
