package playbook

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
)

// size is one item of serial.
type size struct {
	n       int64
	percent bool
}

// of is the number of hosts in a batch of a play of total hosts. 0 or less is
// all that remain, as in Ansible.
func (s size) of(total int) int64 {
	if !s.percent {
		return s.n
	}
	// Ansible divides first, in floating point, so that 29% of 100 is 28. What
	// rounds to nothing is one host.
	share := float64(s.n) / 100
	n := int64(share * float64(total))
	if n == 0 {
		return 1
	}
	return n
}

// parseSize reads 5, "5" and "10%".
func parseSize(v any) (size, error) {
	switch x := v.(type) {
	case int64:
		return size{n: x}, nil
	case string:
		digits, percent := strings.CutSuffix(strings.TrimSpace(x), "%")
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || percent && (n > math.MaxInt32 || n < math.MinInt32) {
			return size{}, fmt.Errorf("%q is neither a number of hosts nor a percentage such as \"10%%\"", x)
		}
		return size{n, percent}, nil
	}
	return size{}, fmt.Errorf("%s is neither a number of hosts nor a percentage such as \"10%%\"", jinja.Text(v))
}

// batches divides the hosts of a play as Ansible does: one item of serial after
// the other, the last one repeating; each host stands in exactly one batch.
func batches(hosts []string, sizes []size) [][]string {
	if len(sizes) == 0 {
		sizes = []size{{}}
	}
	var out [][]string
	total := len(hosts)
	for i := 0; len(hosts) > 0; i++ {
		n := sizes[min(i, len(sizes)-1)].of(total)
		if n <= 0 || n > int64(len(hosts)) {
			n = int64(len(hosts))
		}
		out = append(out, slices.Clone(hosts[:n]))
		hosts = hosts[n:]
	}
	return out
}
