package kernel

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/fleetd/fleetd/pkg/kernel/kerneltest"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// onNew is a health that is the usual one on the old kernel, and another on the new.
func onNew(change func(look int) string) func(string, int) string {
	return func(release string, look int) string {
		if release == kerneltest.OldRelease(kerneltest.EL8) {
			return kerneltest.Healthy
		}
		return change(look)
	}
}

func healthyWithout(what string) func(int) string {
	return func(int) string { return strings.Replace(kerneltest.Healthy, what+"\n", "", 1) }
}

func also(what string) func(int) string {
	return func(int) string { return kerneltest.Healthy + what + "\n" }
}

// TestHealth: a node that is not as well on the new kernel as before goes back to the
// old one, and remembers the new one; what was wrong before as well, and what comes
// right in time, does not matter.
func TestHealth(t *testing.T) {
	for _, c := range []struct {
		name   string
		health func(look int) string
		args   rollout.Args
		why    string // "" = the kernel is taken
	}{
		{"as before", also(""), nil, ""},
		{"what failed before works", healthyWithout("failed cloud-final.service"), nil, ""},
		{"a unit fails", also("failed iscsid.service"), nil, "unit iscsid.service has failed"},
		{"a unit fails, which is allowed", also("failed iscsid.service"), rollout.Args{"ignore_units": []any{"iscsi*"}}, ""},
		{"a unit is slow", func(look int) string {
			if look > 30 {
				return kerneltest.Healthy
			}
			return kerneltest.Healthy + "starting data.mount\n"
		}, nil, ""},
		{"a unit starts for ever", also("starting data.mount"), nil, "unit data.mount is still starting"},
		{"a unit comes at the last moment", func(look int) string {
			if look > 5 {
				return kerneltest.Healthy
			}
			return kerneltest.Healthy + "failed iscsid.service\n"
		}, nil, ""},
		{"a card is gone", healthyWithout("link eth0"), nil, "network interface eth0 is not up"},
		{"an address is gone", healthyWithout("address eth0 10.0.0.5/24"), nil, "address eth0 10.0.0.5/24 is missing"},
		{"the default route is gone", healthyWithout("route default via 10.0.0.1 dev eth0"), nil, `route "default via 10.0.0.1 dev eth0" is missing`},
		{"the runtime is gone", healthyWithout("service containerd.service 611"), nil, "containerd.service is not active"},
		{"the kubelet crashes over and over", func(look int) string {
			return strings.Replace(kerneltest.Healthy, "812", fmt.Sprint(1000+look), 1)
		}, nil, "restarted over and over"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, kerneltest.EL8)
			b.steps = planWith(t, b.fleet, c.args, wholePlay...)
			b.Behave(func(b *kerneltest.Behaviour) { b.Health = onNew(c.health) })
			out := b.do(b.steps...)
			w := b.World()
			switch {
			case c.why == "" && (out.Bad() || w.Running != b.new || b.defaultRelease() != b.new || len(w.Failed) > 0 || b.Counts().Reboots != 1):
				t.Errorf("%s %s; %+v", out.Kind, out.Message, w)
			case c.why != "" && (out.Kind != rollout.Failed || !strings.Contains(out.Message, c.why) || !strings.Contains(out.Message, "it came back on "+b.old) ||
				w.Running != b.old || b.defaultRelease() != b.old || b.Counts().Reboots != 2):
				t.Errorf("%s %s; %+v", out.Kind, out.Message, w)
			case c.why != "" && (len(w.Failed) != 1 || w.Next != "" || w.DeadMan != "" || w.Jumpy || len(w.Entries) != 2):
				t.Errorf("left: %+v", w)
			}
		})
	}
}

// TestHealthDoesNotGoBack: a node that is not well and does not reboot is told of as it
// is.
func TestHealthDoesNotGoBack(t *testing.T) {
	b := newBench(t, kerneltest.EL8)
	b.Behave(func(b *kerneltest.Behaviour) { b.Health = onNew(also("failed iscsid.service")) })
	b.remote.way = stubborn{b.fleet, b.Node, b.new}
	out := b.do(b.steps...)
	if out.Kind != rollout.Failed || !strings.Contains(out.Message, "unit iscsid.service has failed; and it did not go back: cannot reboot "+host) ||
		!strings.Contains(out.Hint, "The default is "+b.old) || b.defaultRelease() != b.old {
		t.Errorf("%s %s\n%s", out.Kind, out.Message, out.Hint)
	}
}

// stubborn is a way to nodes that do not leave a kernel.
type stubborn struct {
	*kerneltest.Fleet
	node   *kerneltest.Node
	kernel string
}

func (w stubborn) Run(ctx context.Context, host string, c sshexec.Command) (sshexec.Result, error) {
	if strings.HasSuffix(c.Script, "\ninit 6") && w.node.World().Running == w.kernel {
		return sshexec.Result{}, nil
	}
	return w.Fleet.Run(ctx, host, c)
}

// readOnly is a way to a node on whose kernel no disk can be written to.
type readOnly stubborn

func (w readOnly) Run(ctx context.Context, host string, c sshexec.Command) (sshexec.Result, error) {
	writes := c.Env["failed"] != "" || c.Env["trial"] != "" || len(c.Argv) > 0 && c.Argv[0] == "grub2-reboot"
	if writes && w.node.World().Running == w.kernel {
		return sshexec.Result{Stderr: []byte("Read-only file system\n"), ExitStatus: 1}, nil
	}
	return w.Fleet.Run(ctx, host, c)
}

// TestHealthReadOnly: a node goes back also where nothing can be written on it, which
// may be what it suffers from.
func TestHealthReadOnly(t *testing.T) {
	b := newBench(t, kerneltest.EL8)
	b.Behave(func(b *kerneltest.Behaviour) { b.Health = onNew(also("failed data.mount")) })
	b.remote.way = readOnly{b.fleet, b.Node, b.new}
	out := b.do(b.steps...)
	if out.Kind != rollout.Failed || !strings.Contains(out.Message, "data.mount has failed; cannot write /var/lib/fleetd/failed-trials") || !strings.Contains(out.Message, "it came back on "+b.old) || b.World().Running != b.old {
		t.Errorf("%s %s; runs %s", out.Kind, out.Message, b.World().Running)
	}
}

// TestHealthCrashAnywhere: killed after any operation, and gone on with, a node that is
// not well comes back by two reboots and no more.
func TestHealthCrashAnywhere(t *testing.T) {
	for at := 1; ; at++ {
		b := newBench(t, kerneltest.EL8)
		b.Behave(func(b *kerneltest.Behaviour) { b.Health = onNew(also("failed iscsid.service")) })
		trial := b.before(t, "fleetd.kernel.trial_boot")
		b.remote.ops, b.remote.killAt = 0, []int{at}
		out := b.do(trial)
		if len(b.remote.killAt) > 0 {
			if at < 40 {
				t.Errorf("only %d operations", at)
			}
			return
		}
		if w := b.World(); out.Kind != rollout.Failed || !strings.Contains(out.Message, "unit iscsid.service has failed; it came back on") || w.Running != b.old ||
			b.Counts().Reboots != 2 || len(w.Failed) != 1 || w.Next != "" || w.DeadMan != "" {
			t.Errorf("killed after operation %d: %s %s; %d reboots; %+v", at, out.Kind, out.Message, b.Counts().Reboots, w)
		}
	}
}

// TestTooLateToDisarm: fleetd comes back as the switch goes off, sooner or later. The
// node ends where the step says it is, and what goes off late does so never.
func TestTooLateToDisarm(t *testing.T) {
	for _, flavour := range flavours {
		ended := map[rollout.OutcomeKind]int{}
		for takes := 1; takes <= 12; takes++ {
			b := newBench(t, flavour)
			step := b.before(t, wholePlay[2])
			b.Behave(func(b *kerneltest.Behaviour) { b.DeadManTakes = takes })
			out := b.do(step)
			for range 20 {
				b.up(t)
			}
			w := b.World()
			if good := out.Kind == rollout.Changed; good != (w.Running == b.new) || !good && !strings.Contains(out.Message, "came back on "+b.old) || w.DeadMan != "" {
				t.Errorf("%s, after %d commands: %s %s, and the node runs %s", flavour, takes, out.Kind, out.Message, w.Running)
			}
			ended[out.Kind]++
		}
		if ended[rollout.Changed] == 0 || ended[rollout.Failed] == 0 {
			t.Errorf("%s: the trials ended %v: this test shows nothing", flavour, ended)
		}
	}
}

// TestCutOffForGood kills fleetd after each operation of a trial, and nobody resumes the
// run. The next apply, from wherever, takes the kernel only where the node is as well on
// it as it was before the run that was cut off.
func TestCutOffForGood(t *testing.T) {
	for _, flavour := range flavours {
		for _, unwell := range []bool{false, true} {
			proven := 0
			for at, killed := 1, true; killed; at++ {
				b := newBench(t, flavour)
				step := b.before(t, wholePlay[2])
				was := b.rawArgs()
				b.Behave(func(k *kerneltest.Behaviour) {
					k.Health = func(release string, _ int) string {
						if unwell && release == b.new {
							return kerneltest.Healthy + "failed iscsid.service\n"
						}
						return kerneltest.Healthy
					}
				})
				b.remote.ops, b.remote.killAt = 0, []int{at}
				_, killed = b.once(step)
				if !killed {
					break
				}
				b.up(t)
				back := len(b.World().Failed) > 0 && b.World().Running == b.old
				b.driver = &driver{remote: &mortal{Fleet: b.fleet}}
				again := planWith(t, b.fleet, rollout.Args{"retry_failed": back}, wholePlay...)
				if c := again[2].change; strings.HasPrefix(c.Summary, "end the trial of ") {
					if proven++; !c.Disruptive || c.Fields[0].After != b.new+", as well as "+b.old {
						t.Errorf("%s, killed in operation %d: %+v", flavour, at, c)
					}
				}
				reboots := b.Counts().Reboots
				out, w := b.do(again...), b.World()
				switch {
				case !unwell && (out.Bad() || w.Running != b.new || b.defaultRelease() != b.new):
					t.Errorf("%s, killed in operation %d: %s %s; %+v", flavour, at, out.Kind, out.Message, w)
				case unwell && (out.Kind != rollout.Failed || !strings.Contains(out.Message, "iscsid.service has failed; it came back on "+b.old) || w.Running != b.old || b.defaultRelease() != b.old || len(w.Failed) == 0):
					t.Errorf("%s, killed in operation %d: %s %s; %+v", flavour, at, out.Kind, out.Message, w)
				case !unwell && again[2].change.Action != rollout.Update && b.Counts().Reboots != reboots:
					t.Errorf("%s, killed in operation %d: rebooted without need", flavour, at)
				}
				if !unwell {
					nothingLeft(t, b, was)
				}
			}
			if proven < 3 {
				t.Errorf("%s: only %d of the next plans end a trial", flavour, proven)
			}
		}
	}
}
