package kerneltest

import (
	"fmt"
	"strings"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// run runs a command on a node that can be reached.
func (n *Node) run(c sshexec.Command) (sshexec.Result, error) {
	if c.Become && n.noRoot > 0 {
		n.noRoot--
		return sshexec.Result{}, fail(n.host, "become root", sshexec.KindBecome, "sudo: PAM account management error")
	}
	n.work()
	if n.unit.works {
		if n.unit.left--; n.unit.left == 0 {
			n.goDown()
			return sshexec.Result{}, fail(n.host, "run", sshexec.KindLost, "connection lost")
		}
	}
	if c.Script == "" {
		n.log = append(n.log, node.Typed(c.Argv...))
		out, status := n.program(c.Argv)
		return answer(out, status), nil
	}
	switch {
	case strings.Contains(c.Script, "fleetd-facts"):
		n.log = append(n.log, "facts")
		return answer(n.facts(factKeys(c.Script)), 0), nil
	case strings.Contains(c.Script, "fleetd-health"):
		n.log = append(n.log, "health")
		n.looks++
		if n.behaviour.Health != nil {
			return answer(n.behaviour.Health(n.running, n.looks), 0), nil
		}
		return answer(Healthy, 0), nil
	case c.Env["fleetd_yum"] != "":
		m := yumLine.FindStringSubmatch(c.Script)
		n.log = append(n.log, "yum "+m[1])
		return answer(n.transact(c, strings.Fields(m[1])), 0), nil
	case strings.HasSuffix(c.Script, "\ninit 6"):
		n.log = append(n.log, "init 6")
		return n.init6(c.Script)
	case c.Env["name"] == trialUnit:
		n.log = append(n.log, map[bool]string{true: "arm ", false: "disarm "}[c.Env["unit"] != ""]+trialUnit)
		return answer(n.deadMan(c.Env["unit"]), 0), nil
	case strings.Contains(c.Script, "fsfreeze"):
		n.log = append(n.log, "flush /boot")
		if n.flavour == EL7 && n.behaviour.GrubDefault == "" {
			return answer("error: syntax error.\n", 65), nil
		}
		return answer("", 0), nil
	case c.Env["stage"] != "":
		n.log = append(n.log, "look at or keep what is staged")
		return answer(n.stageScript(c.Env["answer"]), 0), nil
	case c.Env["record"] != "":
		n.log = append(n.log, "record a trial")
		n.trial = c.Env["text"]
		return answer("", 0), nil
	case c.Env["failed"] != "":
		n.log = append(n.log, "record a failed trial")
		n.recordFailed(c.Env["release"], c.Env["run"])
		return answer("", 0), nil
	case c.Env["trial"] != "":
		n.log = append(n.log, "copy "+c.Env["real"]+" to "+c.Env["trial"])
		return answer(n.copyFile(c.Env)), nil
	case c.Env["file"] != "":
		n.log = append(n.log, "change or look at "+c.Env["file"])
		return n.fileScript(c), nil
	}
	panic(fmt.Sprintf("kerneltest: %s does not know the script: %s", n.host, c.Script))
}

func answer(out string, status int) sshexec.Result {
	return sshexec.Result{Stdout: []byte(out), ExitStatus: status}
}

func (n *Node) program(argv []string) (string, int) {
	switch argv[0] {
	case "grubby":
		return n.grubby(argv)
	case "grub2-set-default":
		if !n.behaviour.Grub2SetsNoDefault {
			n.makeDefault(argv[1])
		}
		return "", 0
	case "grub2-reboot":
		if !n.behaviour.Grub2RebootsNothing {
			n.next = argv[1]
		}
		return "", 0
	case "grub2-editenv":
		if strings.Join(argv[1:], " ") == "- unset next_entry" {
			n.next = ""
			return "", 0
		}
		return n.env(), 0
	case "rm":
		return n.remove(argv[len(argv)-1])
	case "uname":
		return n.running + " #1 SMP\n", 0
	case "cat":
		if argv[1] == sshexec.BootIDFile {
			return n.bootID() + "\n", 0
		}
		if argv[1] == "/etc/machine-id" {
			return fmt.Sprintf("%032x\n", n.host), 0
		}
	case "stat":
		return n.stat(argv[4:])
	case "tail":
		return "Error: Unable to find a match: kernel-ml\n", 0
	case "rpm":
		return n.rpm(argv)
	case "yum":
		return n.yum(argv)
	}
	return n.unknown(argv)
}

func (n *Node) unknown(argv []string) (string, int) {
	panic(fmt.Sprintf("kerneltest: %s does not know the command: %s", n.host, node.Typed(argv...)))
}

// stat prints the sizes of the kernels' files that are there.
func (n *Node) stat(paths []string) (string, int) {
	out, status := "", 0
	for _, path := range paths {
		size := 0
		for _, e := range n.entries {
			image, initramfs := imageSize, n.initramfs(e)
			switch path {
			case e.Kernel:
				size = image
			case e.Initrd:
				size = initramfs
			}
		}
		if size == 0 {
			status = 1
			continue
		}
		out += fmt.Sprintf("%d %s\n", size, path)
	}
	return out, status
}

// imageSize is that of every kernel.
const imageSize = 7 << 20

// initramfs is the size of an entry's.
func (n *Node) initramfs(e node.BootEntry) int {
	if n.behaviour.NoInitramfs && e.Release() != OldRelease(n.flavour) {
		return 0
	}
	return 30 << 20
}

// init6 takes the node down, on the boot that the script is for.
func (n *Node) init6(script string) (sshexec.Result, error) {
	switch {
	case !strings.Contains(script, n.bootID()):
		return answer("", 75), nil
	case n.behaviour.InitRefuses:
		return answer("init: must be superuser\n", 1), nil
	case n.behaviour.InitDoesNothing, n.power == stopping:
		return answer("", 0), nil
	}
	n.counts.Reboots++
	n.power, n.left = stopping, n.behaviour.StopTakes
	if n.left > 0 {
		return answer("", 0), nil
	}
	n.goDown()
	return sshexec.Result{}, fail(n.host, "run a script", sshexec.KindLost, "connection lost")
}
