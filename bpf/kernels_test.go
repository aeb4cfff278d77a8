//go:build linux

package bpf

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// kernelsToBoot lists kernel images (vmlinuz) of x86_64, separated by colons,
// to run TestRealConnections and TestLifecycle on, each in a virtual machine of its own.
const kernelsToBoot = "FLEETD_BPF_KERNELS"

// TestMain lets the test binary be the init of a virtual machine: then it runs
// the tests that the kernel's command line names, and switches the machine off.
func TestMain(m *testing.M) {
	if os.Getpid() != 1 || os.Getenv(inNamespaces) == "" {
		os.Exit(m.Run())
	}
	for _, mount := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		_ = os.Mkdir(mount[1], 0o755) // it may be there; mount says if it is not
		if err := unix.Mount(mount[0], mount[1], mount[0], 0, ""); err != nil {
			fmt.Printf("mount %s: %v\n", mount[1], err)
		}
	}
	fmt.Printf("\nended with %d\n", m.Run())
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Printf("power off: %v\n", err)
	}
}

// TestKernels runs the real thing on other kernels: the very test binary, alone
// in an initramfs, as the init of a virtual machine. That takes about 5 s a
// kernel, and kernels to boot, so they have to be named:
//
//	FLEETD_BPF_KERNELS=/path/vmlinuz-5.10:/path/vmlinuz-6.1 CGO_ENABLED=0 go test -run TestKernels ./bpf
func TestKernels(t *testing.T) {
	images := filepath.SplitList(os.Getenv(kernelsToBoot))
	if len(images) == 0 {
		t.Skipf("boots virtual machines: set %s to kernel images to run it", kernelsToBoot)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	initramfs := filepath.Join(t.TempDir(), "initramfs")
	if err := os.WriteFile(initramfs, initramfsWith(t, exe), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, image := range images {
		t.Run(filepath.Base(image), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			// No KVM, though there may be a /dev/kvm: inside a virtual machine it
			// can be there and hang the guest. Translated, it takes 5 s.
			cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-nodefaults", "-no-reboot", "-display", "none",
				"-accel", "tcg,thread=single,tb-size=64", "-cpu", "qemu64", "-m", "384", "-serial", "stdio",
				"-kernel", image, "-initrd", initramfs,
				// What the kernel does not know it hands to init: the word with "="
				// as environment, all after "--" as arguments.
				"-append", "console=ttyS0 quiet panic=-1 "+inNamespaces+"=1 -- -test.run=^(TestRealConnections|TestLifecycle)$ -test.v")
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			cmd.WaitDelay = 5 * time.Second
			out, err := cmd.CombinedOutput()
			t.Logf("%s", out)
			if err != nil {
				t.Fatalf("qemu: %v", err)
			}
			for _, line := range []string{"--- PASS: TestRealConnections", "--- PASS: TestLifecycle", "ended with 0"} {
				if !strings.Contains(string(out), line) {
					t.Errorf("the virtual machine did not say %q", line)
				}
			}
		})
	}
}

// initramfsWith is a cpio archive (newc) of /dev, /dev/console, without which
// init has no output, and the file as /init.
func initramfsWith(t *testing.T, file string) []byte {
	t.Helper()
	program, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Fatal("the test binary is not static and cannot be an init: set CGO_ENABLED=0")
		}
	}
	var b bytes.Buffer
	add := func(name string, mode, major, minor int, content []byte) {
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
			0, mode, 0, 0, 1, 0, len(content), 0, 0, major, minor, len(name)+1, 0, name)
		pad := func() { b.Write(make([]byte, -b.Len()&3)) }
		pad()
		b.Write(content)
		pad()
	}
	add("dev", unix.S_IFDIR|0o755, 0, 0, nil)
	add("dev/console", unix.S_IFCHR|0o600, 5, 1, nil)
	add("init", unix.S_IFREG|0o755, 0, 0, program)
	add("TRAILER!!!", 0, 0, 0, nil)
	return b.Bytes()
}
