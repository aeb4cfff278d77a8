package view

import (
	"errors"
	"fmt"
	"testing"

	"github.com/fleetd/fleetd/pkg/sshexec"
)

func TestFormatErrors(t *testing.T) {
	var errs []error
	for i := 1; i <= 37; i++ {
		errs = append(errs, &sshexec.Error{Host: fmt.Sprintf("web%02d", i), Kind: sshexec.KindAuth, Op: "log in as centos", Err: errors.New("the host refuses the login"), Hint: "check ansible_user"})
	}
	for i := 1; i <= 2; i++ {
		errs = append(errs, &sshexec.Error{Host: fmt.Sprintf("db%d", i), Kind: sshexec.KindUnreachable, Op: "connect", Err: errors.New("no route to it")})
	}
	errs = append(errs, &sshexec.Error{Host: "db3", Kind: sshexec.KindUnreachable, Op: "connect", Err: errors.New("no such host")})
	err := FleetError(errs...)
	const want = `auth failed: 37 hosts: web[01:37]
  cannot log in as centos: the host refuses the login
  next: check ansible_user
unreachable: 3 hosts: db[1:3]
  cannot connect: no route to it (db[1:2])
  cannot connect: no such host (db3)`
	if err.Error() != want {
		t.Errorf("got:\n%s\nwant:\n%s", err, want)
	}
	if sshexec.KindOf(err) != sshexec.KindAuth {
		t.Errorf("KindOf sees %v", sshexec.KindOf(err))
	}
	if err := FleetError(nil, nil); err != nil {
		t.Errorf("no errors give %v", err)
	}
}
