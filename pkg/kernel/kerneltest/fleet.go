// Package kerneltest is a fleet of EL nodes in memory, for tests of what stands
// on fleetd.kernel and fleetd.bpf:
//
//	fleet := kerneltest.New(map[string]kerneltest.Flavour{"node1": kerneltest.EL7, "node2": kerneltest.EL9})
//	fleet.Node("node2").Behave(func(b *kerneltest.Behaviour) { b.Kernels[kerneltest.NewRelease(kerneltest.EL9)] = kerneltest.Panics })
//	modules := kernel.Modules(fleet)
//
// It is calibrated on the recordings of real nodes in pkg/node/testdata (what
// grubby, rpm, yum and grubenv print on CentOS 7, Rocky 8 and AlmaLinux 9) and
// on the lab's virtual machines, which reboot through a real GRUB: next_entry is
// booted once and left behind empty, a panic brings the default back under a
// second new boot_id, a connection is lost while init 6 works, a node on its way
// up refuses connections, then logins. grubby is as its sources are: C grubby puts
// a new entry first and makes it of the default one, EL8's script writes variables
// out when it changes arguments. It is as unkind as those were: tools end
// with 0 and have done nothing where a [Behaviour] says so.
//
// It does not show that real tools take these commands, nor anything of SSH,
// sudo, scriptlets, dracut or full disks; and nothing in it takes time. A node
// moves on by being talked to: so many commands after a transaction was begun it
// is over, so many attempts to reach it after a reboot it answers.
//
// What a node has done is counted and not capped ([Counts]): a second reboot is
// seen as one. Its state outlives whoever talks to it. All methods are safe for
// concurrent use. A command that no node knows is a panic: a test that needs it
// needs it here.
package kerneltest

import (
	"context"
	"errors"
	"strings"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// Fleet is the node.Remote, and the node.Connector, of its nodes.
type Fleet struct{ nodes map[string]*Node }

var _ node.Connector = (*Fleet)(nil)

// New returns nodes that run the distribution's kernel, and whose repository
// elrepo-kernel has one kernel-ml ([NewRelease]).
func New(hosts map[string]Flavour) *Fleet {
	f := &Fleet{nodes: map[string]*Node{}}
	for host, flavour := range hosts {
		f.nodes[host] = newNode(host, flavour)
	}
	return f
}

// Node returns one of the nodes.
func (f *Fleet) Node(host string) *Node {
	n, ok := f.nodes[host]
	if !ok {
		panic("kerneltest: there is no node " + host)
	}
	return n
}

// Connect reaches the node, if it can be reached.
func (f *Fleet) Connect(ctx context.Context, host string) error {
	_, err := f.talk(ctx, host, "connect", func(*Node) (sshexec.Result, error) { return sshexec.Result{}, nil })
	return err
}

// Reached names the node itself: there is no address, and no key but the name.
func (f *Fleet) Reached(host string) (address, hostKey string) { return host + ":22", "SHA256:" + host }

// Run runs one of the commands that the modules use.
func (f *Fleet) Run(ctx context.Context, host string, c sshexec.Command) (sshexec.Result, error) {
	op := "run a script"
	if len(c.Argv) > 0 {
		op = "run " + c.Argv[0]
	}
	return f.talk(ctx, host, op, func(n *Node) (sshexec.Result, error) { return n.run(c) })
}

// Upload writes a file.
func (f *Fleet) Upload(ctx context.Context, host string, u sshexec.Upload) error {
	_, err := f.talk(ctx, host, "upload "+u.Path, func(n *Node) (sshexec.Result, error) { return sshexec.Result{}, n.upload(u) })
	return err
}

// Forget does nothing: there are no connections.
func (f *Fleet) Forget(string) {}

func (f *Fleet) talk(ctx context.Context, host, op string, do func(*Node) (sshexec.Result, error)) (sshexec.Result, error) {
	if ctx.Err() != nil {
		return sshexec.Result{}, fail(host, op, sshexec.KindCanceled, context.Cause(ctx).Error())
	}
	n, ok := f.nodes[host]
	if !ok {
		return sshexec.Result{}, fail(host, "connect", sshexec.KindUnreachable, "no such host")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.reach(op); err != nil {
		return sshexec.Result{}, err
	}
	return do(n)
}

// failure is a connection's error with what node.Fleet says of it.
type failure struct{ err *sshexec.Error }

func fail(host, op string, kind sshexec.Kind, why string) error {
	return failure{&sshexec.Error{Host: host, Op: op, Kind: kind, Err: errors.New(why)}}
}

func (f failure) Error() string { return f.err.Error() }
func (f failure) Unwrap() error { return f.err }
func (f failure) Unreachable() bool {
	switch f.err.Kind {
	case sshexec.KindUnreachable, sshexec.KindAuth, sshexec.KindLost:
		return true
	case sshexec.KindTimeout:
		return !strings.HasPrefix(f.err.Op, "run ")
	}
	return false
}
