// Package integration holds the tests of fleetd as a whole, against virtual
// machines that really reboot and a real control plane (build tag lab; root).
// lab/ is what they start; `make lab-up` starts the same by hand.
package integration
