package bpf

import (
	"fmt"
	"math/bits"
	"strings"
	"time"
)

// Slots is the number of slots of a Histogram.
const Slots = 32

// Histogram counts latencies by powers of two: slot i those of at least 2^i and
// less than 2^(i+1) microseconds, slot 0 also all below one microsecond, the
// last one all above.
type Histogram [Slots]uint64

// SlotOf is the slot that a latency falls into.
func SlotOf(d time.Duration) int {
	us := d.Microseconds()
	if us < 2 {
		return 0
	}
	return min(bits.Len64(uint64(us))-1, Slots-1)
}

// Bounds are the latencies of a slot: from (inclusive) and to (exclusive). The
// last slot has no end; its to is the time at which one would begin.
func Bounds(slot int) (from, to time.Duration) {
	if slot > 0 {
		from = time.Microsecond << slot
	}
	return from, time.Microsecond << (slot + 1)
}

// Count is the number of latencies in the histogram.
func (h Histogram) Count() uint64 {
	var n uint64
	for _, c := range h {
		n += c
	}
	return n
}

// Quantile is an upper bound of the latency that a share q (0 to 1) of all
// stays below: the end of the slot it falls into, so at most twice the truth.
// It is 0 for an empty histogram.
func (h Histogram) Quantile(q float64) time.Duration {
	total := h.Count()
	if total == 0 {
		return 0
	}
	var seen uint64
	for slot, c := range h {
		seen += c
		if c > 0 && float64(seen) >= q*float64(total) {
			_, to := Bounds(slot)
			return to
		}
	}
	_, to := Bounds(Slots - 1)
	return to
}

// String draws the slots between the first and the last that are not empty, one
// a line, as bpftrace does.
func (h Histogram) String() string {
	first, last, most := Slots, -1, uint64(0)
	for i, c := range h {
		if c > 0 {
			first, last, most = min(first, i), i, max(most, c)
		}
	}
	var b strings.Builder
	for i := first; i <= last; i++ {
		from, to := Bounds(i)
		bar := strings.Repeat("@", int(40*float64(h[i])/float64(most)))
		fmt.Fprintf(&b, "%-24s %8d |%-40s|\n", fmt.Sprintf("[%s, %s)", from, to), h[i], bar)
	}
	return b.String()
}

// Counters are what the object tcp_connect counts since it was attached.
type Counters struct {
	// Started counts attempts begun, Established and Failed how they ended.
	Started, Established, Failed uint64
	// Untracked ended without a start on record: begun before the attach,
	// missed by the kernel, or evicted by a flood of attempts.
	Untracked uint64
	// Other left SYN_SENT for neither end (simultaneous open).
	Other uint64
	// Unsent events were not delivered: nobody read them, or not fast enough.
	// They are in the histograms nevertheless.
	Unsent uint64
	// EstablishedTime and FailedTime are the sums of the latencies, each cut
	// to whole microseconds.
	EstablishedTime, FailedTime time.Duration
}
