package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// rescuePlay has a block that fails after a change that notifies, a rescue with a
// condition on what failed, a loop, a delegated task, and a handler.
const rescuePlay = `
- hosts: all
  gather_facts: false
  handlers:
    - name: restart
      command: restarted
  tasks:
    - block:
        - command: first
          notify: restart
        - command: "{{ 'bad' if inventory_hostname == 'a' else 'good' }} thing"
          register: thing
        - command: second
      rescue:
        - command: mend {{ ansible_failed_result.rc }}
          when: ansible_failed_result.rc is defined
        - command: again {{ item }}
          loop: [x, y]
      always:
        - command: always {{ inventory_hostname }}
          delegate_to: localhost
    - command: last
`

// Killed with any event, before or after it is written, a host takes the same way
// through block, rescue and always, and does nothing on it twice.
func TestRescueKilledAtEveryEvent(t *testing.T) {
	p, params := openPlan(t, rescuePlay)
	calm, undisturbed, events := lives(t, p, params, 0, false)
	if calm.Status != rollout.Done || len(calm.LostHosts()) > 0 || len(undisturbed.ran["a"]) != 7 || len(undisturbed.ran["b"]) != 5 || len(undisturbed.ran["localhost"]) != 2 {
		t.Fatalf("undisturbed, the run ends %s with %v", calm.Status, undisturbed.ran)
	}
	through := 0
	for at := range len(events) {
		for _, lost := range []bool{false, true} {
			t.Run(fmt.Sprint(at+1, lost), func(t *testing.T) {
				r, hosts, _ := lives(t, p, params, at+1, lost)
				for host := range hosts.ran {
					scripts := withoutLife(hosts.ran[host])
					sorted := slices.Sorted(slices.Values(scripts))
					if once := slices.Compact(slices.Clone(sorted)); len(once) != len(scripts) {
						t.Errorf("on %s something ran twice: %q", host, scripts)
					}
					// A command that was cut off has failed: another way is right then.
					cut := false
					p.Each(func(id rollout.StepID, _ rollout.PlannedStep) bool {
						s := r.Step(id)
						cut = cut || (id.Host == host || host == rollout.Localhost) && s != nil && strings.Contains(s.Outcome.Message, "was cut off while")
						return true
					})
					if cut {
						continue
					}
					through++
					want := withoutLife(undisturbed.ran[host])
					if host == rollout.Localhost { // of two hosts, whichever comes first
						slices.Sort(want)
						slices.Sort(scripts)
					}
					if d := cmp.Diff(want, scripts); d != "" {
						t.Errorf("on %s (-undisturbed +killed)\n%s", host, d)
					}
				}
			})
		}
	}
	if through == 0 {
		t.Error("no run ever went the same way: the test looks at nothing")
	}
}

// withoutLife are scripts without the word by which fickle tells who decided.
func withoutLife(scripts []string) []string {
	out := slices.Clone(scripts)
	for i, s := range out {
		out[i], _, _ = strings.Cut(s, " life ")
	}
	return out
}
