//go:build ignore

// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
//
// tcp_connect: every TCP connection that this machine opens, how long the
// handshake took, and how it ended.
//
// Source: the tracepoint sock:inet_sock_set_state (Linux 4.16), which the
// kernel keeps stable. CLOSE -> SYN_SENT starts the clock, in the task that
// calls connect(2); SYN_SENT -> anything stops it, usually in softirq, where
// the current task is a stranger: so task and cgroup are taken at the start
// and kept by socket address until the end.
//
// Loads without the kernel's BTF (ELRepo's kernels for EL7 have none): no
// CO-RE, no global data, no loop, no ring buffer, instruction set v1. The .BTF
// section of the object describes the maps to the loader, nothing else.
//
// Events go through a perf event array and not a ring buffer: the ring buffer
// came with Linux 5.8, while Calico's eBPF data plane runs from Linux 5.3 and
// from RHEL's 4.18 on, and one object shall serve every node. The price, lost
// order between CPUs, is paid by the reader: it has the timestamp.
//
// The formats below are documented in README.md. Whoever changes struct event
// raises EVENT_VERSION, or only appends.

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define EVENT_VERSION 1
#define PROTOCOL_TCP 6
#define COMM_LEN 16
#define SLOTS 32

enum outcome { OUTCOME_ESTABLISHED = 1, OUTCOME_FAILED = 2 };

enum counter {
	COUNT_STARTED,     /* CLOSE -> SYN_SENT seen */
	COUNT_ESTABLISHED, /* reported as established */
	COUNT_FAILED,      /* reported as failed */
	COUNT_UNTRACKED,   /* ended, but the start was not seen or was evicted */
	COUNT_OTHER,       /* left SYN_SENT for another state (simultaneous open) */
	COUNT_UNSENT,      /* event not delivered: no reader, or its buffer full */
	COUNT_ESTABLISHED_US, /* sum of latencies, microseconds */
	COUNT_FAILED_US,
	COUNTERS,
};

struct start {
	__u64 timestamp_ns;
	__u64 cgroup_id;
	__u32 pid;
	__u32 tid;
	__u32 uid;
	__u32 reserved;
	char comm[COMM_LEN];
};

struct event {
	__u16 version;
	__u16 length;
	__u8 outcome;
	__u8 reserved;
	__u16 family;
	__u64 timestamp_ns;
	__u64 latency_ns;
	__u64 cgroup_id;
	__u32 pid;
	__u32 tid;
	__u32 uid;
	__u16 sport;
	__u16 dport;
	__u8 saddr[16];
	__u8 daddr[16];
	char comm[COMM_LEN];
};
_Static_assert(sizeof(struct event) == 96, "event layout version 1 has 96 bytes");

/* LRU: the kernel skips tracing programs that would nest on one CPU, so an end
 * can be missed. In a plain hash such orphans would pile up until it is full
 * and nothing is measured any more. The loader raises the size on big machines. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* address of the struct sock */
	__type(value, struct start);
} connects SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} events SEC(".maps");

/* Slot i counts latencies in [2^i, 2^(i+1)) microseconds, slot 0 all below 2;
 * the first SLOTS entries are of established connections, the rest of failed. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2 * SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} latency_us SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* The tracepoint's record. Linux 5.6 widened protocol for MPTCP and moved all
 * that follows; the loader reads the kernel's own format file and loads the one
 * program of the two that fits. struct record_u8 is packed, for its addresses
 * are unaligned and a BPF program must then read them byte by byte. */
struct record_u16 {
	__u64 common;
	__u64 skaddr;
	__s32 oldstate;
	__s32 newstate;
	__u16 sport;
	__u16 dport;
	__u16 family;
	__u16 protocol;
	__u8 saddr[4];
	__u8 daddr[4];
	__u8 saddr_v6[16];
	__u8 daddr_v6[16];
};

struct record_u8 {
	__u64 common;
	__u64 skaddr;
	__s32 oldstate;
	__s32 newstate;
	__u16 sport;
	__u16 dport;
	__u16 family;
	__u8 protocol;
	__u8 saddr[4];
	__u8 daddr[4];
	__u8 saddr_v6[16];
	__u8 daddr_v6[16];
} __attribute__((packed));

/* No atomics: the kernel lets only one tracing program run per CPU at a time. */
static __always_inline void add(void *map, __u32 key, __u64 n)
{
	__u64 *value = bpf_map_lookup_elem(map, &key);

	if (value)
		*value += n;
}

static __always_inline __u32 log2_slot(__u64 us)
{
	__u32 v = us > 0xffffffff ? 0xffffffff : us;
	__u32 slot = 0, up;

	up = (v > 0xffff) << 4; v >>= up; slot |= up;
	up = (v > 0xff) << 3;   v >>= up; slot |= up;
	up = (v > 0xf) << 2;    v >>= up; slot |= up;
	up = (v > 0x3) << 1;    v >>= up; slot |= up;
	return slot | (v >> 1);
}

static __always_inline int started(__u64 sock)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct start s = {
		.timestamp_ns = bpf_ktime_get_ns(),
		.cgroup_id = bpf_get_current_cgroup_id(),
		.pid = id >> 32,
		.tid = id,
		.uid = bpf_get_current_uid_gid(),
	};

	bpf_get_current_comm(s.comm, sizeof(s.comm));
	bpf_map_update_elem(&connects, &sock, &s, BPF_ANY);
	add(&counters, COUNT_STARTED, 1);
	return 0;
}

/* ended fills what the start knew into e, whose addresses are set already, and
 * hands it out. The addresses are those of the end: at the start the kernel has
 * not chosen the source port yet. */
static __always_inline int ended(void *ctx, __u64 sock, int newstate, struct event *e)
{
	struct start *s = bpf_map_lookup_elem(&connects, &sock);
	__u32 failed = newstate == BPF_TCP_CLOSE;
	__u64 us;

	if (!s) {
		add(&counters, COUNT_UNTRACKED, 1);
		return 0;
	}
	if (!failed && newstate != BPF_TCP_ESTABLISHED) {
		bpf_map_delete_elem(&connects, &sock);
		add(&counters, COUNT_OTHER, 1);
		return 0;
	}

	e->version = EVENT_VERSION;
	e->length = sizeof(*e);
	e->outcome = failed ? OUTCOME_FAILED : OUTCOME_ESTABLISHED;
	e->timestamp_ns = bpf_ktime_get_ns();
	e->latency_ns = e->timestamp_ns - s->timestamp_ns;
	e->cgroup_id = s->cgroup_id;
	e->pid = s->pid;
	e->tid = s->tid;
	e->uid = s->uid;
	__builtin_memcpy(e->comm, s->comm, sizeof(e->comm));
	bpf_map_delete_elem(&connects, &sock);

	us = e->latency_ns / 1000;
	add(&latency_us, failed * SLOTS + log2_slot(us), 1);
	add(&counters, COUNT_ESTABLISHED + failed, 1);
	add(&counters, COUNT_ESTABLISHED_US + failed, us);

	/* Needs a GPL-compatible licence, as does nothing else here. */
	if (bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, e, sizeof(*e)))
		add(&counters, COUNT_UNSENT, 1);
	return 0;
}

/* Both programs, one per layout. The v6 fields hold IPv4 addresses too, mapped
 * (::ffff:a.b.c.d): the kernel fills them for both families. */
#define TRANSITION(r)                                                          \
	({                                                                     \
		struct event e = {};                                           \
		__u64 sock = (r)->skaddr;                                      \
		int newstate = (r)->newstate, oldstate = (r)->oldstate;        \
                                                                               \
		if ((r)->protocol != PROTOCOL_TCP)                             \
			return 0;                                              \
		if (newstate == BPF_TCP_SYN_SENT)                              \
			return started(sock);                                  \
		if (oldstate != BPF_TCP_SYN_SENT)                              \
			return 0;                                              \
		e.family = (r)->family;                                        \
		e.sport = (r)->sport;                                          \
		e.dport = (r)->dport;                                          \
		__builtin_memcpy(e.saddr, (r)->saddr_v6, sizeof(e.saddr));     \
		__builtin_memcpy(e.daddr, (r)->daddr_v6, sizeof(e.daddr));     \
		ended((r), sock, newstate, &e);                                \
	})

SEC("tracepoint/sock/inet_sock_set_state")
int tcp_connect(struct record_u16 *r)
{
	return TRANSITION(r);
}

/* "?": a generic loader (libbpf, bpftool prog load) leaves this one out. */
SEC("?tracepoint/sock/inet_sock_set_state")
int tcp_connect_u8(struct record_u8 *r)
{
	return TRANSITION(r);
}

/* Dual, because bpf_perf_event_output is for GPL-compatible programs only. */
char LICENSE[] SEC("license") = "Dual MIT/GPL";
