package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fleetd/fleetd/pkg/rollout"
)

const endingPlays = `
- hosts: all
  gather_facts: false
  tasks:
    - command: probe {{ inventory_hostname }}
      register: probe
    - meta: end_host
      when: "'probe a' in probe.stdout"
    - command: act
      loop: [one, two]
      loop_control: {extended: true, pause: 0.001}
- hosts: all
  gather_facts: false
  tasks:
    - command: second
      register: second
    - meta: end_play
      when: second.rc == 0
    - command: never
`

// Killed with any event, fleetd does nothing behind the end of a play, and all before it.
func TestEndsKilledAtEveryEvent(t *testing.T) {
	p, params := openPlan(t, endingPlays)
	_, _, events := lives(t, p, params, 0, false)
	for at := range len(events) + 1 {
		for _, lost := range []bool{false, true} {
			t.Run(fmt.Sprint(at, lost), func(t *testing.T) {
				r, hosts, _ := lives(t, p, params, at, lost)
				if r.Status != rollout.Done && len(r.LostHosts()) < 2 {
					t.Fatalf("the run ends %s, without %v", r.Status, r.LostHosts())
				}
				for host, want := range map[string][]string{"a": {"probe", "second"}, "b": {"probe", "act", "act", "second"}} {
					var ran []string
					for _, s := range hosts.ran[host] {
						ran = append(ran, strings.Fields(s)[1])
					}
					_, lostIt := r.Lost(host) // a command was cut off: nobody knows how far it came
					if got, all := fmt.Sprint(ran), fmt.Sprint(want); got != all && !(lostIt && strings.HasPrefix(all, strings.TrimSuffix(got, "]"))) {
						t.Errorf("on %s ran %s, and it should be %s", host, got, all)
					}
				}
			})
		}
	}
}
