package auth

import "testing"

// TestPasswordIsAnsweredOnce: a host that asks again, in one exchange or the
// next, found it wrong; every further try counts towards a lock.
func TestPasswordIsAnsweredOnce(t *testing.T) {
	login := func() *Login { return NewRing(nil).NewLogin(Credentials{Password: "pw"}, nil) }
	answer := login().answer()
	got, err := answer("", "", []string{"Password: "}, []bool{false})
	if err != nil || len(got) != 1 || got[0] != "pw" {
		t.Fatalf("%q, %v", got, err)
	}
	if got, err := answer("", "", []string{"Password: "}, []bool{false}); err == nil {
		t.Errorf("answered again: %q", got)
	}
	// What it shows on the screen is no password.
	if got, err := login().answer()("", "", []string{"Name: "}, []bool{true}); err == nil {
		t.Errorf("answered a question that is echoed: %q", got)
	}
}
