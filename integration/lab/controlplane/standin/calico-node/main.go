// A STAND-IN for calico-node, not calico-node.
//
// It is three things, told apart by its arguments as the real program's parts are:
//
//   - without any, the container calico-node on a real kubelet: it runs Felix and starts
//     it again when it ends, as runit does there. -init, -felix-ready and -shutdown are
//     what the operator's DaemonSet calls besides. `calico-node -felix` is Felix itself
//     (felix.go), in such a pod or as a service of a machine without a kubelet.
//   - what kwok runs when somebody execs `calico-node -bpf …` in a pod of its nodes
//     (answers.go).
//
// What it does not show: there is no BIRD, no confd and no CNI plugin, nothing is
// encapsulated, no policy is in force and no BPF program runs. In BPF mode a pod's Felix
// carries Services with rules of iptables (services.go).
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "stand-in calico-node:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	question := strings.Join(args, " ")
	switch {
	case question == "":
		return supervise()
	case question == "-felix":
		return felix()
	case question == "-init":
		return mountBPF()
	case question == "-shutdown":
		return nil // the real one says why the network goes in the Node's conditions
	case slices.Contains(args, "-felix-ready"):
		return felixReady()
	case strings.HasPrefix(question, "-bpf "):
		return answer(question)
	}
	return fmt.Errorf("cannot answer %q", question)
}

// supervise runs Felix for as long as the container lives.
func supervise() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	program, err := os.Executable() // /proc/self/exe would be the process's name
	if err != nil {
		return err
	}
	for {
		felix := exec.CommandContext(ctx, program, "-felix")
		felix.Args[0] = "calico-node"
		felix.Cancel = func() error { return felix.Process.Signal(syscall.SIGTERM) }
		felix.Stdout, felix.Stderr = os.Stdout, os.Stderr
		err := felix.Run()
		if ctx.Err() != nil {
			return nil
		}
		fmt.Println("Felix has ended and is started again:", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// mountBPF is the init container mount-bpffs.
func mountBPF() error {
	var st unix.Statfs_t
	if err := unix.Statfs(bpffs, &st); err == nil && st.Type == unix.BPF_FS_MAGIC {
		return nil
	}
	if err := unix.Mount("bpffs", bpffs, "bpf", 0, ""); err != nil {
		return fmt.Errorf("cannot mount %s: %w", bpffs, err)
	}
	return nil
}

// felixReady is the readiness probe.
func felixReady() error {
	c := http.Client{Timeout: 8 * time.Second}
	resp, err := c.Get("http://" + healthAddress() + "/readiness")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New("felix is not ready: " + resp.Status)
	}
	return nil
}
