package main

import (
	"testing"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// TestAgain: what is to be typed next has everything that this command had.
func TestAgain(t *testing.T) {
	for _, tc := range []struct {
		flags  []string
		source rollout.Source
		verb   string
		want   string
	}{
		{nil, rollout.Source{Inventories: []string{"inventory.yaml"}, Playbook: defaultPlaybook}, "apply", "fleetd apply inventory.yaml"},
		{
			[]string{"-K", "-f", "5", "--vault-id", "prod@~/my pass", "--state", "/srv/fleetd", "--yes", "-o", "json"},
			rollout.Source{
				Inventories: []string{"a.yaml", "b,c,"}, Playbook: "playbooks/disable_ebpf.yml", Limit: []string{"all:!web1"}, Tags: []string{"kernel", "odd tag"}, SkipTags: []string{"slow"},
				ExtraVars: []string{"kernel_version=6.1.4", `{"x": "it's"}`}, Kubeconfig: "admin.conf", KubeVia: "bastion",
			},
			"apply",
			`fleetd apply a.yaml -i b,c, --playbook playbooks/disable_ebpf.yml --limit 'all:!web1' --tags kernel --tags 'odd tag' --skip-tags slow -e 'kernel_version=6.1.4' -e '{"x": "it'\''s"}' ` +
				`--kubeconfig admin.conf --kube-via bastion --vault-id 'prod@~/my pass' --forks 5 --ask-become-pass --state /srv/fleetd`,
		},
		{[]string{"--state", "/srv/fleetd"}, rollout.Source{Inventories: []string{"a"}, Limit: []string{"w1"}}, "plan", "fleetd plan a --limit w1"},
	} {
		c := newApply()
		if err := c.ParseFlags(tc.flags); err != nil {
			t.Fatal(err)
		}
		if got := again(c, tc.verb, tc.source); got != tc.want {
			t.Errorf("got  %s\nwant %s", got, tc.want)
		}
	}
}

func TestNext(t *testing.T) {
	c := newApply()
	if err := c.ParseFlags([]string{"-K", "--state", "/srv/fleetd"}); err != nil {
		t.Fatal(err)
	}
	n := nextOf(c, "20260101-0000-abcd", "x")
	if n.Show != "fleetd runs show 20260101-0000-abcd --state /srv/fleetd" || n.Resume != "fleetd resume 20260101-0000-abcd --ask-become-pass --state /srv/fleetd" {
		t.Errorf("%+v", n)
	}
}
