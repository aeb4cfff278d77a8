package sshexec_test

import (
	"testing"

	"go.uber.org/goleak"
)

// Every test closes its pool; whatever it started must be gone then.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
