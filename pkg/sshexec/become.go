package sshexec

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

const hintBecomePassword = "set ansible_become_password, or give it with --ask-become-pass"

func becomeOp(t Target) string { return "become " + t.Become.user() }

func wrongBecomePassword(t Target, method string) error {
	return &Error{Kind: KindBecome, Op: becomeOp(t), Err: fmt.Errorf("%s: wrong password", method),
		Hint: "check ansible_become_password; " + method + " counts failures and may lock the account"}
}

// becomeLate explains a become that neither came to our shell nor asked what it was
// told to ask: PAM modules such as pam_sss have questions of their own.
func becomeLate(t Target, method, question string, after time.Duration) error {
	f := &Error{Kind: KindBecome, Op: becomeOp(t), Err: fmt.Errorf("%s did not come to an end within %v", method, after)}
	if question != "" {
		f.Err = fmt.Errorf("%s asks %q, which is not the question for the password", method, question)
		f.Hint = "for sudo put \"Defaults passprompt_override\" into the host's sudoers"
	}
	return f
}

// becomeFault explains why sudo or su ended before our shell ran. asked is how
// often it asked for the password.
func becomeFault(t Target, method, said string, code, asked int) error {
	low := strings.ToLower(said)
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(low, p) {
				return true
			}
		}
		return false
	}
	detail := func(what string) error {
		if said == "" {
			return errors.New(what)
		}
		return fmt.Errorf("%s: %s", what, said)
	}
	op := becomeOp(t)
	switch {
	case code == 127 || has("sudo: not found", "su: not found", "sudo: command not found", "su: command not found"):
		return &Error{Kind: KindBecome, Op: op, Err: fmt.Errorf("%s is not installed", method), Hint: "log in as root, or install " + method}
	case asked > 0 && has("incorrect password", "authentication failure", "sorry, try again"):
		return wrongBecomePassword(t, method)
	case has("must have a tty", "a terminal is required", "no tty present", "must be run from a terminal"):
		if has("password") {
			return &Error{Kind: KindBecome, Op: op, Err: detail(method + " needs a password"), Hint: hintBecomePassword}
		}
		return &Error{Kind: KindBecome, Op: op, Err: detail(method + " wants a terminal"), Hint: "remove requiretty from sudoers for this user"}
	case has("a password is required"):
		return &Error{Kind: KindBecome, Op: op, Err: errors.New(method + " needs a password"), Hint: hintBecomePassword}
	case has("account has expired", "account expired", "password has expired", "password expired", "account validation failure"):
		return &Error{Kind: KindBecome, Op: op, Err: detail(method + ": the account or its password has expired")}
	default:
		return &Error{Kind: KindBecome, Op: op, Err: detail(method + " refuses"),
			Hint: fmt.Sprintf("check what %s allows the user %s (sudo -l)", method, t.user())}
	}
}
