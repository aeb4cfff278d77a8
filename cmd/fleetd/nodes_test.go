package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/fleetd/fleetd/pkg/kernel/kerneltest"
	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

// nodes are EL nodes in memory that a fleetd in another process reaches over real
// SSH: what it did to them is counted, and stays when it is killed.
type nodes struct {
	fleet   *kerneltest.Fleet
	servers map[string]*sshtest.Server
	dir     string
	// hanging is the node whose commands do not end, "" for none; each is told of
	// by a file "hanging".
	hanging atomic.Value
	mu      sync.Mutex
	// ran is what was run on a node, since somebody asked.
	ran map[string][]string
}

// startNodes starts an SSH server for every node, and writes known_hosts and an
// inventory of them into dir.
func startNodes(dir string, flavours map[string]kerneltest.Flavour) (*nodes, error) {
	n := &nodes{fleet: kerneltest.New(flavours), servers: map[string]*sshtest.Server{}, dir: dir, ran: map[string][]string{}}
	var known strings.Builder
	for host := range flavours {
		n.fleet.Node(host).Behave(func(b *kerneltest.Behaviour) { b.BootTakes, b.YumTakes = 1, 1 })
		srv, err := sshtest.Start(filepath.Join(dir, "servers", host), sshtest.Sudo(sshtest.SudoPolicy{}), sshtest.HandlesBootID(), sshtest.Handler(n.answer(host)))
		if err != nil {
			n.close()
			return nil, err
		}
		n.servers[host] = srv
		b, err := os.ReadFile(srv.KnownHostsFile())
		if err != nil {
			n.close()
			return nil, err
		}
		known.Write(b)
	}
	if err := os.MkdirAll(filepath.Join(dir, ".ssh"), 0o700); err != nil {
		return nil, err
	}
	return n, errors.Join(
		os.WriteFile(filepath.Join(dir, ".ssh", "known_hosts"), []byte(known.String()), 0o600),
		os.WriteFile(filepath.Join(dir, "hosts"), []byte(n.inventory()), 0o600),
	)
}

func (n *nodes) inventory() string {
	var b strings.Builder
	for _, host := range slices.Sorted(maps.Keys(n.servers)) {
		t := n.servers[host].Target("")
		fmt.Fprintf(&b, "%s ansible_host=%s ansible_port=%d ansible_ssh_private_key_file=%s\n", host, t.Address, t.Port, t.IdentityFiles[0])
	}
	return b.String()
}

func (n *nodes) close() {
	for _, s := range n.servers {
		s.Close()
	}
}

// answer lets the node of that name run what came over the wire. A node that is
// on its way down or up drops the connection.
func (n *nodes) answer(host string) func(*sshtest.Request) sshtest.Response {
	return func(r *sshtest.Request) sshtest.Response {
		n.mu.Lock()
		n.ran[host] = append(n.ran[host], r.Script+strings.Join(r.Argv, " "))
		n.mu.Unlock()
		if n.hanging.Load() == host {
			_ = os.WriteFile(filepath.Join(n.dir, "hanging"), nil, 0o600)
			<-r.Context.Done()
			return sshtest.Response{}
		}
		if strings.Contains(r.Script, n.dir) { // a playbook's own command
			if strings.Contains(r.Script, "fix-the-default") {
				n.fleet.Node(host).Behave(func(b *kerneltest.Behaviour) { b.GrubDefault = "0" })
			}
			// What is kept on a node for an undo is kept with the node here.
			r.Command = strings.ReplaceAll(r.Command, "/var/lib/fleetd", n.dir+"/kept-on-"+host)
			// The shell is this process's, whoever is asked for.
			r.Env = maps.Clone(r.Env)
			if r.Env == nil {
				r.Env = map[string]string{}
			}
			r.Env["BECAME"] = r.Become
			// This system's rpm keeps a database there, and makes it when it is first
			// asked: two nodes with one would find it half made.
			r.Env["HOME"] = n.dir + "/home-of-" + host
			if err := os.MkdirAll(r.Env["HOME"], 0o700); err != nil {
				return sshtest.Response{Stderr: err.Error(), Exit: 1}
			}
			return r.Shell()
		}
		c := sshexec.Command{Argv: r.Argv, Script: r.Script, Env: r.Env, Become: r.Become != ""}
		res, err := n.fleet.Run(r.Context, host, c)
		var e *sshexec.Error
		switch {
		case errors.As(err, &e) && e.Kind == sshexec.KindBecome:
			return sshtest.Response{Stderr: "sudo: PAM account management error\n", Exit: 1}
		case err != nil:
			r.Server.DropConnections()
			return sshtest.Response{}
		}
		return sshtest.Response{Stdout: string(res.Stdout), Stderr: string(res.Stderr), Exit: res.ExitStatus}
	}
}
