package view

import "testing"

// What stands beside a host's name does not say it again, and stays a sentence.
func TestOfOne(t *testing.T) {
	for text, want := range map[string]string{
		"cannot log in on n1: no route":   "cannot log in: no route",
		"see its console; on n1: ls /run": "see its console; there: ls /run",
		"on n1: yum clean all":            "there: yum clean all",
		"on n11: yum clean all":           "on n11: yum clean all",
	} {
		if got := ofOne("n1", text); got != want {
			t.Errorf("%q is said as %q, want %q", text, got, want)
		}
	}
}
