package bpf

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestObjects(t *testing.T) {
	all := Objects()
	if len(all) == 0 {
		t.Fatal("nothing to ship")
	}
	for _, o := range all {
		if sum := fmt.Sprintf("%x", sha256.Sum256(o.Bytes)); o.SHA256 != sum {
			t.Errorf("%s: digest %s, is %s", o.Name, o.SHA256, sum)
		}
		if !strings.HasPrefix(string(o.Bytes), "\x7fELF\x02\x01") {
			t.Errorf("%s is no little-endian 64-bit ELF file", o.Name)
		}
		if o.Path() != "/usr/local/lib/fleetd/bpf/"+o.Name+".o" {
			t.Errorf("%s goes to %s", o.Name, o.Path())
		}
		if got, err := Lookup(o.Name); err != nil || got.SHA256 != o.SHA256 {
			t.Errorf("Lookup(%q): %v", o.Name, err)
		}
	}
	all[0].Name = "changed"
	if Objects()[0].Name == "changed" {
		t.Error("the caller's list is the package's own")
	}
	if _, err := Lookup("tcp"); err == nil || err.Error() != `no BPF object is named "tcp"; there is: tcp_connect` {
		t.Errorf("unknown name: %v", err)
	}
}

func TestParseKernelVersion(t *testing.T) {
	for release, want := range map[string]string{
		"6.1.4-1.el7.elrepo.x86_64":   "6.1.4",
		"3.10.0-1160.el7.x86_64":      "3.10",
		"4.18.0-553.8.1.el8_10":       "4.18",
		"6.18.44-fc-v657":             "6.18.44",
		"6.9-rc1":                     "6.9",
		"6.12.95+deb12-cloud-amd64":   "6.12.95",
		"5.10.262":                    "5.10.262",
		"":                            "",
		"six":                         "",
		"6":                           "",
		"6.":                          "",
		"6.1.":                        "",
		"-1.2":                        "",
		"99999.1":                     "",
		"6.1.99999999999999999999999": "",
	} {
		got := ""
		if v, err := ParseKernelVersion(release); err == nil {
			got = v.String()
		}
		if got != want {
			t.Errorf("%q is read as %q, want %q", release, got, want)
		}
	}
}

func FuzzParseKernelVersion(f *testing.F) {
	f.Add("4.18.0-553.el8_10.x86_64")
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseKernelVersion(s)
		if err != nil {
			return
		}
		again, err := ParseKernelVersion(v.String())
		if err != nil || again != v || v.Compare(again) != 0 {
			t.Fatalf("%q is %v, which is read as %v, %v", s, v, again, err)
		}
	})
}

func TestHistogramProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		latencies := rapid.SliceOfN(rapid.Int64Range(0, int64(100*time.Hour)), 1, 50).Draw(t, "latencies")
		var h Histogram
		for _, n := range latencies {
			d := time.Duration(n)
			slot := SlotOf(d)
			from, to := Bounds(slot)
			if d < from || d.Truncate(time.Microsecond) >= to && slot < Slots-1 {
				t.Fatalf("%s is in slot %d, [%s, %s)", d, slot, from, to)
			}
			h[slot]++
		}
		if h.Count() != uint64(len(latencies)) {
			t.Fatalf("count %d of %d", h.Count(), len(latencies))
		}
		// At least a share q of all lies below the quantile (the last slot is open).
		q := rapid.Float64Range(0, 1).Draw(t, "q")
		limit, below := h.Quantile(q), 0
		_, top := Bounds(Slots - 1)
		for _, n := range latencies {
			if time.Duration(n) < limit || limit == top {
				below++
			}
		}
		if float64(below) < q*float64(len(latencies)) {
			t.Fatalf("%d of %d are below the %.2f quantile %s", below, len(latencies), q, limit)
		}
	})
}

func TestHistogramString(t *testing.T) {
	h := Histogram{0: 1, 2: 4}
	want := "" +
		"[0s, 2µs)                       1 |@@@@@@@@@@                              |\n" +
		"[2µs, 4µs)                      0 |                                        |\n" +
		"[4µs, 8µs)                      4 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|\n"
	if got := h.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := (Histogram{}).String(); got != "" {
		t.Errorf("an empty one is %q", got)
	}
	if got := (Histogram{}).Quantile(0.5); got != 0 {
		t.Errorf("an empty one has quantile %s", got)
	}
}
