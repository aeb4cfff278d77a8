package bpf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
)

// Outcome is how an attempt to connect ended.
type Outcome uint8

const (
	// Established: the handshake is done.
	Established Outcome = 1
	// ConnectFailed: the socket went back to CLOSE: refused, timed out, no
	// route, or given up by the program that had asked for it.
	ConnectFailed Outcome = 2
)

func (o Outcome) String() string {
	switch o {
	case Established:
		return "established"
	case ConnectFailed:
		return "failed"
	}
	return fmt.Sprintf("outcome(%d)", uint8(o))
}

// ConnectEvent is one attempt of this machine to open a TCP connection.
type ConnectEvent struct {
	Outcome Outcome
	// Monotonic is when it ended, since boot, on CLOCK_MONOTONIC (it stands
	// still while the machine sleeps).
	Monotonic time.Duration
	// Latency is the time from connect(2) to the outcome.
	Latency time.Duration
	// CgroupID is the cgroup v2 of the task that called connect(2), on
	// Kubernetes its container; it is the inode number of the cgroup's folder.
	// On a cgroup v1 system it is the root's.
	CgroupID uint64
	// PID is the process, TID the thread, in the initial PID namespace.
	PID, TID uint32
	UID      uint32
	// IPv6 is the family of the socket. An IPv6 socket can talk to an IPv4
	// address.
	IPv6 bool
	// Source and Destination are the ends as the kernel's socket has them. An
	// address mapped into IPv6 is given as IPv4. Source.Port can be 0 when the
	// attempt failed before the kernel had chosen one.
	Source, Destination netip.AddrPort
	// Comm is the name of the thread that called connect(2). A program chooses
	// it freely, control characters included: quote it before printing.
	Comm string
}

func (e ConnectEvent) String() string {
	return fmt.Sprintf("%s %s → %s in %s by %q (pid %d)", e.Outcome, e.Source, e.Destination, e.Latency, e.Comm, e.PID)
}

// Layout of struct event in tcp_connect.c, version 1. All fields little endian.
const (
	eventVersion = 1
	eventLength  = 96

	offVersion   = 0
	offLength    = 2
	offOutcome   = 4
	offFamily    = 6
	offTimestamp = 8
	offLatency   = 16
	offCgroup    = 24
	offPID       = 32
	offTID       = 36
	offUID       = 40
	offSport     = 44
	offDport     = 46
	offSaddr     = 48
	offDaddr     = 64
	offComm      = 80

	familyInet  = 2
	familyInet6 = 10
)

// UnmarshalBinary decodes an event of the object tcp_connect, layout version 1.
// Bytes after the length that the event states are padding of the perf buffer;
// bytes that a later layout of the same version appended are ignored.
func (e *ConnectEvent) UnmarshalBinary(b []byte) error {
	if len(b) < offOutcome {
		return fmt.Errorf("connect event of %d bytes has no header", len(b))
	}
	le := binary.LittleEndian
	if v := le.Uint16(b[offVersion:]); v != eventVersion {
		return fmt.Errorf("connect event has layout version %d, this fleetd reads %d\n"+
			"read it with the fleetd that shipped the object, or ship this one's", v, eventVersion)
	}
	if n := int(le.Uint16(b[offLength:])); n < eventLength || n > len(b) {
		return fmt.Errorf("connect event of %d bytes says it has %d, and version 1 has at least %d", len(b), n, eventLength)
	}
	outcome := Outcome(b[offOutcome])
	if outcome != Established && outcome != ConnectFailed {
		return fmt.Errorf("connect event has unknown outcome %d", outcome)
	}
	family := le.Uint16(b[offFamily:])
	if family != familyInet && family != familyInet6 {
		return fmt.Errorf("connect event has unknown address family %d", family)
	}
	// time.Duration is signed: a value that would turn negative is not a time.
	stamp, latency := le.Uint64(b[offTimestamp:]), le.Uint64(b[offLatency:])
	if stamp > 1<<63-1 || latency > stamp {
		return fmt.Errorf("connect event at %d ns lasted %d ns", stamp, latency)
	}
	comm := b[offComm : offComm+16]
	if i := bytes.IndexByte(comm, 0); i >= 0 {
		comm = comm[:i]
	}
	*e = ConnectEvent{
		Outcome:     outcome,
		Monotonic:   time.Duration(stamp),
		Latency:     time.Duration(latency),
		CgroupID:    le.Uint64(b[offCgroup:]),
		PID:         le.Uint32(b[offPID:]),
		TID:         le.Uint32(b[offTID:]),
		UID:         le.Uint32(b[offUID:]),
		IPv6:        family == familyInet6,
		Source:      addrPort(b[offSaddr:], le.Uint16(b[offSport:])),
		Destination: addrPort(b[offDaddr:], le.Uint16(b[offDport:])),
		Comm:        string(comm),
	}
	return nil
}

func addrPort(b []byte, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)).Unmap(), port)
}
