package sshexec

import (
	"fmt"
	"testing"
)

// TestCauseNamesNoHost: two hosts that fail in the same way read alike.
func TestCauseNamesNoHost(t *testing.T) {
	for _, address := range []string{"10.0.0.1", "10.0.0.2"} {
		target := Target{Name: "db", Address: address}
		e := errorOf(target, "run uname", &fault{kind: KindUnreachable, op: "connect", err: fmt.Errorf("%s refuses connections", target.HostPort())})
		if got := e.Cause(); got != "cannot connect: the host refuses connections" {
			t.Error(got)
		}
	}
}
