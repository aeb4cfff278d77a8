package inventory

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
)

// RandomCases says how many random cases a comparison with Ansible draws, and
// from which seed. Without the environment variable it is n cases of one fixed
// seed, so that a change is judged by the same cases each time; with it, which
// is how new differences are looked for, as many as it says from a new seed, or
// from FLEETD_SEED to see one again.
func RandomCases(t *testing.T, variable string, n int) (cases int, seed uint64) {
	t.Helper()
	seed = 1
	if s := os.Getenv(variable); s != "" {
		if _, err := fmt.Sscan(s, &n); err != nil {
			t.Fatalf("%s: %v", variable, err)
		}
		seed = rand.Uint64()
	}
	if s := os.Getenv("FLEETD_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatalf("FLEETD_SEED: %v", err)
		}
	}
	t.Logf("%d cases, seed %d", n, seed)
	return n, seed
}
