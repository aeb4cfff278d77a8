package calico

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

const (
	// askAtOnce bounds how many nodes are asked at the same time.
	askAtOnce = 32
	// askTimeout bounds the answer of one node.
	askTimeout = 30 * time.Second
	// askEvery and askPerNode are how long the nodes are left alone after they
	// were asked: each answer is an SSH session and an operation in the journal.
	askEvery   = 5 * time.Second
	askPerNode = 100 * time.Millisecond
	// logKept bounds, in bytes, what is shown of a line of a node's log.
	logKept = 200
)

//go:embed felix.sh
var felixScript string

// felixEnv is where the script looks.
func felixEnv() map[string]string {
	return map[string]string{"LC_ALL": "C", "proc": "/proc", "bpffs": "/sys/fs/bpf", "sys": "/sys", "logs": "/var/log/pods"}
}

// felixState is what a node shows of its Felix, in one look.
//
// Sources, in Calico's felix: daemon/daemon.go overrides BPFEnabled and logs
// "Disabling BPF mode" where the kernel does not support it;
// dataplane/linux/int_dataplane.go logs "BPF enabled, starting BPF endpoint
// manager and map manager." and creates the maps; bpf/maps keeps each one open
// as long as the process lives, pinned below bpf/bpfdefs' GlobalPinDir
// (/sys/fs/bpf/tc/globals) under its name and version (cali_v4_nat_fe3);
// bpf/tc attaches cali_tc_preamble (15 characters of it are shown) by tc, or by
// tcx with a link pinned as /sys/fs/bpf/tcx/INTERFACE_ingress. Before 3.24 the
// programs were named calico_from_….
type felixState struct {
	// Process is Felix's process ID and start time; "" if it does not run.
	Process string `json:"process"`
	// Maps counts the BPF maps that the process holds open. What is pinned or
	// attached may be from before; these are of this process alone.
	Maps int `json:"maps"`
	// Pinned are the maps of Services in the BPF file system.
	Pinned []string `json:"pinned,omitempty"`
	// Attached are the host's interfaces with Calico's program on them. Those of
	// pods do not count: there may be none.
	Attached []string `json:"attached,omitempty"`
	// NoTC is set where tc is missing, which shows what tc has attached.
	NoTC bool `json:"no_tc,omitempty"`
	// Log is the last line of Felix's log about the mode.
	Log string `json:"log,omitempty"`
}

// parseFelix reads what the script printed. What it does not know it leaves
// out.
func parseFelix(out string) felixState {
	var s felixState
	for line := range strings.Lines(out) {
		key, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch key {
		case "felix":
			process, count, _ := strings.Cut(rest, " ")
			if n, err := strconv.Atoi(count); err == nil && (s.Process == "" || n > s.Maps) {
				s.Process, s.Maps = process, n
			}
		case "pinned":
			s.Pinned = append(s.Pinned, rest)
		case "attached":
			s.Attached = append(s.Attached, rest)
		case "notc":
			s.NoTC = true
		case "log":
			s.Log = rest
		}
	}
	return s
}

// missing says why the node does not run the data plane, "" if it does.
func (s felixState) missing(want DataPlane) string {
	switch {
	case s.Process == "":
		return "calico-node -felix does not run"
	case want != BPF && len(s.Attached) > 0:
		return fmt.Sprintf("Calico's BPF programs are still attached to %q", s.Attached)
	case want != BPF && len(s.Pinned) > 0:
		return fmt.Sprintf("Calico's BPF maps are still pinned: %q", s.Pinned)
	case want != BPF:
		return ""
	case s.Maps == 0 && strings.Contains(s.Log, "Disabling BPF mode"):
		return fmt.Sprintf("Felix goes on without BPF, it logged %q", clipped(s.Log))
	case s.Maps == 0:
		return "Felix does not run in BPF mode: its process holds no BPF map"
	case len(s.Pinned) == 0:
		return "no BPF map of Services is pinned below /sys/fs/bpf/tc/globals"
	case len(s.Attached) == 0 && s.NoTC:
		return "whether programs are attached cannot be seen: tc is not installed (package iproute-tc)"
	case len(s.Attached) == 0:
		return "Calico's BPF program is attached to no interface of the host"
	}
	return ""
}

func clipped(s string) string {
	if len(s) > logKept {
		return s[:logKept] + "…"
	}
	return s
}

// proof is what all nodes showed in one look.
type proof struct {
	// Unproven are the nodes that did not show the data plane, as "name (why)".
	Unproven []string
	// Mark changes when a node is proven, is lost, or its Felix has restarted.
	Mark string
	// Nodes is how many were to be asked, Unasked how many of them could not be.
	Nodes, Unasked int
}

// unasked begins why a node could not be asked.
const unasked = "it cannot be asked: "

// prove asks every node of the cluster over SSH whether Felix runs the data
// plane now, one round trip each. A node that cannot be asked is unproven. The
// error is of the API server, which tells what nodes there are.
func (d Deps) prove(ctx context.Context, want DataPlane) (proof, error) {
	nodes, err := d.Client.Nodes(ctx)
	if err != nil {
		return proof{}, err
	}
	var mu sync.Mutex
	p := proof{Nodes: len(nodes)}
	var marks []string
	felix := sshexec.Command{Script: felixScript, Env: felixEnv(), Become: true, Timeout: askTimeout}
	d.ask(ctx, nodes, func(cluster.Node) sshexec.Command { return felix },
		func(n cluster.Node, out string, why string) {
			mark := n.Name
			if why == "" {
				s := parseFelix(out)
				why, mark = s.missing(want), n.Name+" "+s.Process
			}
			mu.Lock()
			defer mu.Unlock()
			if strings.HasPrefix(why, unasked) {
				p.Unasked++
			}
			if why != "" {
				p.Unproven = append(p.Unproven, fmt.Sprintf("%s (%s)", n.Name, why))
				return
			}
			marks = append(marks, mark)
		})
	slices.Sort(p.Unproven)
	slices.Sort(marks)
	p.Mark = fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(marks, "\n"))))[:16]
	return p, nil
}

// ask runs a command on the host of every node, many at once, and hands on what
// it printed, or why it could not be had.
func (d Deps) ask(ctx context.Context, nodes []cluster.Node, command func(cluster.Node) sshexec.Command, answer func(n cluster.Node, out, why string)) {
	hosts := cluster.HostsOf(nodes, d.Nodes)
	var g errgroup.Group
	g.SetLimit(askAtOnce)
	for _, n := range nodes {
		host, ok := hosts[n.Name]
		if !ok {
			answer(n, "", unasked+"no host of the inventory is this node")
			continue
		}
		g.Go(func() error {
			res, err := d.Hosts.Run(ctx, host, command(n))
			out, why := answerOf(res, err)
			answer(n, out, why)
			return nil
		})
	}
	_ = g.Wait() // an answer that is missing is an answer
}

// answerOf is what a command printed, or why that is no answer.
func answerOf(res sshexec.Result, err error) (out, why string) {
	switch {
	case err != nil:
		return "", unasked + err.Error()
	case res.ExitStatus != 0:
		return "", fmt.Sprintf(unasked+"exit status %d: %q", res.ExitStatus, clipped(strings.TrimSpace(string(res.Stderr))))
	}
	return string(res.Stdout), ""
}

// askAgain is when so many nodes are asked again.
func askAgain(nodes int) time.Duration { return askEvery + time.Duration(nodes)*askPerNode }

// text says who is not proven.
func (p proof) text(want DataPlane) string {
	return fmt.Sprintf("%d of %d nodes are not proven to run the data plane %s: %s", len(p.Unproven), p.Nodes, want, cluster.Few(p.Unproven))
}
