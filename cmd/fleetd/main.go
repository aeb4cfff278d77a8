// Command fleetd moves a fleet of EL nodes to an ELRepo kernel and its
// Kubernetes cluster to Calico's eBPF data plane, over SSH and the Kubernetes
// API, as an Ansible inventory and playbook say; shows beforehand what it will
// do; and takes it back.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	_ "github.com/fleetd/fleetd/cmd/fleetd/collect" // first, while the others initialise
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/text"
)

// The exit codes, which others script against.
const (
	exitDone        = 0   // done, or nothing to do
	exitError       = 1   // fleetd could not do its work, or a host was lost on the way
	exitChanges     = 2   // plan: there are changes; compliance: there is drift; preflight: there is something to mend
	exitHalted      = 3   // a gate halted the run
	exitInterrupted = 130 // the user interrupted the run
)

// version is set by the linker (make build).
var version = "dev"

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	var code exitCode
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintln(stderr, text.Printable("fleetd: "+err.Error()))
	hint := sshexec.HintOf(err)
	if hint == "" {
		hint = rollout.AsProblem(err).Hint
	}
	if !strings.Contains(err.Error(), hint) { // a list of errors has each one's hint in it
		fmt.Fprintln(stderr, text.Printable("  "+hint))
	}
	return exitError
}

// exitCode ends the program with a code and nothing more to say.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "fleetd",
		Short: "Move EL nodes to an ELRepo kernel and their cluster to Calico eBPF, and back",
		Long: `fleetd moves the nodes of an Ansible inventory to an ELRepo kernel (yum, trial
boot, reboot, uname) and their Kubernetes cluster to Calico's eBPF data plane.

  fleetd preflight inventory.yaml                  what has to be mended before
  fleetd plan  inventory.yaml --out change.plan    what would happen, for review
  fleetd stage change.plan                         download it to the nodes beforehand
  fleetd apply change.plan                         exactly what was reviewed
  fleetd apply inventory.yaml                      both, with a question in between

Exit status: 0 done or nothing to do; 1 error, or a host failed or could not be
reached although no gate halted the run; 2 plan has changes, compliance found
drift, or preflight something to mend; 3 halted by a gate, or aborted; 130 paused
or interrupted.`,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetGlobalNormalizationFunc(ansibleFlags)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w\n%s --help lists the flags", err, c.CommandPath())
	})
	root.AddCommand(newPreflight(), newPlan(), newStage(), newApply(), newPause(), newAbort(), newResume(), newUndo(), newUnlock(), newPropose(), newApprove(), newCompliance(), newExec(), newInventory(), newRuns(), newWatch(), newServe())
	return root
}

// ansibleFlags takes the other names that Ansible has for a flag.
func ansibleFlags(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	switch name {
	case "inventory-file":
		name = "inventory"
	case "vault-pass-file":
		name = "vault-password-file"
	case "ask-vault-password":
		name = "ask-vault-pass"
	}
	return pflag.NormalizedName(name)
}
