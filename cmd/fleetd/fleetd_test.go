package main

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets more scripts run at a time than there are cores: they wait, for
// nodes that reboot, and do not compute.
func TestMain(m *testing.M) {
	if strings.HasSuffix(os.Args[0], ".test") { // not one of the commands
		flag.Parse()
		_ = flag.Set("test.parallel", "8") // the flag is there, and 8 a number
	}
	testscript.Main(m, map[string]func(){"fleetd": func() {
		runClock = fastClock{time.Now()}
		main()
	}})
}

// haste is how much faster than the machine's clock the runs of the scripts go: what
// they wait for is a node that has to stay well for a while after its reboot. Their
// timeouts are as much shorter, and have to leave room for a slow machine.
const haste = 5

// fastClock goes faster than the machine's, by haste.
type fastClock struct{ start time.Time }

func (c fastClock) Now() time.Time                         { return time.Now() }
func (c fastClock) Since() time.Duration                   { return haste * time.Since(c.start) }
func (c fastClock) After(d time.Duration) <-chan time.Time { return time.After(d / haste) }

// TestScript runs the command line as a user does, on a machine from which no
// host can be reached.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("XDG_STATE_HOME", e.WorkDir+"/state")
			return nil
		},
	})
}
