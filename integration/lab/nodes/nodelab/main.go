// Command nodelab builds, starts, looks at and stops a node lab by hand: see the package above it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/fleetd/fleetd/integration/lab/nodes"
)

const usage = `usage: nodelab COMMAND [flags]

  packages                  install the Debian packages that the lab needs
  build  [-flavours el7,el8]                build what the cache lacks
  up     [-dir D] [-netns N] [-flavours el7,el7,el8] [-names a,b,c] [-memory MB] [-panic-on 2=*elrepo*]
                            start one node per flavour named, and wait for SSH
  status [-dir D]           the nodes, and which of them run
  ssh    [-dir D] I [COMMAND…]              run a command on node I as centos, or log in
  console [-dir D] I        what node I wrote to its console
  down   [-dir D]           stop everything that up started
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "nodelab:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return errors.New("no command")
	}
	flags := flag.NewFlagSet("nodelab "+args[0], flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	dir := flags.String("dir", "", "the lab's folder (default: run, in the cache)")
	netns := flags.String("netns", "", "network namespace (default: fleetd-nodes)")
	flavours := flags.String("flavours", "el7,el7", "flavour of each node")
	names := flags.String("names", "", "name of each node")
	memory := flags.Int("memory", 0, "MB of each node (default: 384)")
	panicOn := flags.String("panic-on", "", "I=PATTERN: node I panics on kernels that match")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	switch args[0] {
	case "packages":
		return nodes.InstallHostPackages(ctx, os.Stderr)
	case "build":
		if err := nodes.InstallHostPackages(ctx, os.Stderr); err != nil {
			return err
		}
		return nodes.Build(ctx, nodes.Options{Flavours: list[nodes.Flavour](*flavours), Log: os.Stderr})
	case "up":
		cfg := nodes.Config{Dir: *dir, Netns: *netns, MemoryMB: *memory, Log: os.Stderr}
		for i, f := range list[nodes.Flavour](*flavours) {
			n := nodes.NodeConfig{Flavour: f}
			if given := list[string](*names); i < len(given) {
				n.Name = given[i]
			}
			if at, pattern, ok := strings.Cut(*panicOn, "="); ok && at == strconv.Itoa(i+1) {
				n.PanicOn = pattern
			}
			cfg.Nodes = append(cfg.Nodes, n)
		}
		return up(ctx, cfg)
	}
	lab, err := nodes.Load(*dir)
	if err != nil {
		return err
	}
	switch args[0] {
	case "status":
		status(lab)
		return nil
	case "down":
		return lab.Stop()
	case "console", "ssh":
		i, err := strconv.Atoi(flags.Arg(0))
		if err != nil || i < 1 || i > len(lab.Nodes()) {
			return fmt.Errorf("%s: no node %q", args[0], flags.Arg(0))
		}
		if args[0] == "ssh" {
			return ssh(ctx, lab, i, flags.Args()[1:])
		}
		text, err := lab.Console(i)
		fmt.Print(text)
		return err
	}
	fmt.Fprint(os.Stderr, usage)
	return fmt.Errorf("no command %q", args[0])
}

func up(ctx context.Context, cfg nodes.Config) error {
	if err := nodes.InstallHostPackages(ctx, os.Stderr); err != nil {
		return err
	}
	lab, err := nodes.Start(ctx, cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	if err := lab.WaitReady(ctx); err != nil {
		return err
	}
	status(lab)
	return nil
}

func status(lab *nodes.Lab) {
	fmt.Printf("folder %s, network namespace %s, login key %s, host keys %s\n", lab.Dir, lab.Netns, lab.IdentityFile, lab.KnownHosts)
	for _, n := range lab.Nodes() {
		state := "off"
		if n.Running() {
			state = "on"
		}
		fmt.Printf("%-3d %-16s %s  %s:%d  %-3s  %s\n", n.Index, n.Name, n.Flavour, n.Address, n.Port, state, n.Kernels.Base)
	}
}

func ssh(ctx context.Context, lab *nodes.Lab, i int, command []string) error {
	n := lab.Node(i)
	args := []string{"netns", "exec", lab.Netns, "ssh", "-F", "none", "-i", lab.IdentityFile, "-o", "IdentitiesOnly=yes",
		"-o", "UserKnownHostsFile=" + lab.KnownHosts, "centos@" + n.Address}
	cmd := exec.CommandContext(ctx, "ip", append(args, command...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}

// list splits at commas; an empty text is an empty list.
func list[T ~string](s string) (items []T) {
	for item := range strings.SplitSeq(s, ",") {
		if item != "" {
			items = append(items, T(item))
		}
	}
	return items
}
