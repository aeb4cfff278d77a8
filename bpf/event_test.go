package bpf

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// encode is the decoder's inverse: what the C program would have sent.
func encode(e ConnectEvent) []byte {
	le := binary.LittleEndian
	b := make([]byte, eventLength)
	le.PutUint16(b[offVersion:], eventVersion)
	le.PutUint16(b[offLength:], eventLength)
	b[offOutcome] = byte(e.Outcome)
	family := uint16(familyInet)
	if e.IPv6 {
		family = familyInet6
	}
	le.PutUint16(b[offFamily:], family)
	le.PutUint64(b[offTimestamp:], uint64(e.Monotonic))
	le.PutUint64(b[offLatency:], uint64(e.Latency))
	le.PutUint64(b[offCgroup:], e.CgroupID)
	le.PutUint32(b[offPID:], e.PID)
	le.PutUint32(b[offTID:], e.TID)
	le.PutUint32(b[offUID:], e.UID)
	le.PutUint16(b[offSport:], e.Source.Port())
	le.PutUint16(b[offDport:], e.Destination.Port())
	saddr, daddr := e.Source.Addr().As16(), e.Destination.Addr().As16()
	copy(b[offSaddr:], saddr[:])
	copy(b[offDaddr:], daddr[:])
	copy(b[offComm:], e.Comm)
	return b
}

// sample is an event as the kernel sent it, byte by byte: curl, process 4711
// (0x1267), from 10.31.90.4:43240 to 10.33.26.2:80 in 1.25 ms.
var sample = []byte{
	1, 0, 96, 0, 1, 0, 2, 0, // version, length, established, AF_INET
	0x00, 0xe4, 0x0b, 0x54, 0x02, 0, 0, 0, // 10 s
	0xd0, 0x12, 0x13, 0, 0, 0, 0, 0, // 1.25 ms
	0x39, 0x30, 0, 0, 0, 0, 0, 0, // cgroup 12345
	0x67, 0x12, 0, 0, 0x68, 0x12, 0, 0, // pid, tid
	0xe8, 0x03, 0, 0, // uid 1000
	0xe8, 0xa8, 80, 0, // ports
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 31, 90, 4,
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 33, 26, 2,
	'c', 'u', 'r', 'l', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
}

var sampleEvent = ConnectEvent{
	Outcome: Established, Monotonic: 10 * time.Second, Latency: 1250 * time.Microsecond,
	CgroupID: 12345, PID: 4711, TID: 4712, UID: 1000,
	Source:      netip.MustParseAddrPort("10.31.90.4:43240"),
	Destination: netip.MustParseAddrPort("10.33.26.2:80"),
	Comm:        "curl",
}

func with(off int, bytes ...byte) []byte {
	b := append([]byte(nil), sample...)
	copy(b[off:], bytes)
	return b
}

func TestUnmarshalConnectEvent(t *testing.T) {
	change := func(f func(*ConnectEvent)) ConnectEvent { e := sampleEvent; f(&e); return e }
	for _, c := range []struct {
		name string
		in   []byte
		want ConnectEvent
		err  string // a part of the error; "" = none
	}{
		{name: "as sent", in: sample, want: sampleEvent},
		{name: "padding of the perf buffer", in: append(with(0), 1, 2, 3, 4), want: sampleEvent},
		{name: "longer layout of the same version", in: append(with(offLength, 104), make([]byte, 8)...), want: sampleEvent},
		{name: "failed", in: with(offOutcome, 2), want: change(func(e *ConnectEvent) { e.Outcome = ConnectFailed })},
		{name: "IPv6 socket to an IPv4 address", in: with(offFamily, 10), want: change(func(e *ConnectEvent) { e.IPv6 = true })},
		{name: "IPv6", in: encode(change(func(e *ConnectEvent) {
			e.IPv6 = true
			e.Source, e.Destination = netip.MustParseAddrPort("[fd00::1]:1024"), netip.MustParseAddrPort("[2001:db8::2]:443")
		})), want: change(func(e *ConnectEvent) {
			e.IPv6 = true
			e.Source, e.Destination = netip.MustParseAddrPort("[fd00::1]:1024"), netip.MustParseAddrPort("[2001:db8::2]:443")
		})},
		{name: "comm without an end", in: with(offComm, []byte("exactly16letters")...), want: change(func(e *ConnectEvent) { e.Comm = "exactly16letters" })},
		{name: "empty", in: nil, err: "0 bytes has no header"},
		{name: "cut", in: sample[:95], err: "95 bytes says it has 96"},
		{name: "says it is short", in: with(offLength, 95), err: "says it has 95"},
		{name: "other version", in: with(offVersion, 2), err: "layout version 2, this fleetd reads 1"},
		{name: "unknown outcome", in: with(offOutcome, 3), err: "unknown outcome 3"},
		{name: "unknown family", in: with(offFamily, 1), err: "unknown address family 1"},
		{name: "longer than since boot", in: with(offLatency+7, 1), err: "lasted"},
		{name: "negative time", in: with(offTimestamp+7, 0x80), err: "lasted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got ConnectEvent
			err := got.UnmarshalBinary(c.in)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want one with %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzUnmarshalConnectEvent(f *testing.F) {
	f.Add(sample)
	f.Add(with(offFamily, 10))
	f.Add(append(with(offLength, 104), make([]byte, 8)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e ConnectEvent
		if e.UnmarshalBinary(b) != nil {
			return
		}
		if e.Latency < 0 || e.Monotonic < e.Latency || len(e.Comm) > 16 || strings.ContainsRune(e.Comm, 0) {
			t.Fatalf("impossible event %+v", e)
		}
		// What the decoder kept is all there is: put back, it decodes the same,
		// and the bytes differ at most where the layout has no meaning.
		again := encode(e)
		var e2 ConnectEvent
		if err := e2.UnmarshalBinary(again); err != nil || e2 != e {
			t.Fatalf("%+v decodes again as %+v, %v", e, e2, err)
		}
		for _, x := range [][2]int{{offVersion, offLength}, {offOutcome, offOutcome + 1}, {offFamily, offComm}} {
			// A mapped and a zone-less address have one form, so bytes are equal.
			if !bytes.Equal(b[x[0]:x[1]], again[x[0]:x[1]]) {
				t.Fatalf("bytes %d to %d: % x, decoded and put back: % x", x[0], x[1], b[x[0]:x[1]], again[x[0]:x[1]])
			}
		}
	})
}

func TestEventString(t *testing.T) {
	e := sampleEvent
	e.Comm = "\x1b[2Jevil" // a program's name must not reach a terminal raw
	want := `established 10.31.90.4:43240 → 10.33.26.2:80 in 1.25ms by "\x1b[2Jevil" (pid 4711)`
	if got := e.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
