package pattern

import (
	"strings"
	"testing"
)

func FuzzExpand(f *testing.F) {
	for _, s := range []string{"web[01:10:2].x:22", "[1:3].foo", "[::1]:22", "a[b:d]-[1:2]", "n[3:1]", "x[ab:cd]", "[1:3]:22", "fe80::1%eth0", "h[1:2", "h[0:99999999999]", "h[-1:1]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		hosts, port, err := Expand(nil, s, 1000)
		if err != nil {
			return
		}
		if len(hosts) > 1000 || port < 0 {
			t.Fatalf("%d hosts, port %d", len(hosts), port)
		}
		for _, h := range hosts {
			if strings.Contains(h, "[") && strings.Contains(s, "[") && !strings.HasPrefix(s, "[") {
				t.Fatalf("%q has a range left in %q", s, h)
			}
		}
	})
}
