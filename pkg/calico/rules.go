package calico

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// FelixSection is the section of a host's state that holds what it shows of its Felix.
var FelixSection = rollout.NewSection[felixState]("felix")

// Rules are what a policy can ask of Calico, beside what the modules declare.
func Rules() []rollout.Rule {
	ofCluster := []rollout.Read{{Section: Section.Name()}}
	return []rollout.Rule{
		{
			Name: "calico-verified", Help: "the data plane is in force on every node, kube-proxy is as it goes with it, and Calico is well", Cluster: true,
			OfCluster: ofCluster, With: withVerified,
			Params: rollout.Params{"linux_dataplane": {Type: rollout.String, Choices: []string{string(BPF), string(Iptables)}, Help: "BPF (default) or Iptables"}},
		},
		{
			Name: "calico-bpf-proven", Help: "Felix runs the eBPF data plane on the node: its process holds the maps, its programs are attached",
			Reads: []rollout.Read{{Section: FelixSection.Name()}}, With: func(rollout.Args) (rollout.Judgement, error) { return judgeProven, nil },
		},
		{
			Name: "calico-kernel", Help: "the running kernel is what the installed Calico's eBPF data plane needs",
			Reads: []rollout.Read{{Section: node.Section.Name()}}, OfCluster: ofCluster, With: func(rollout.Args) (rollout.Judgement, error) { return judgeKernel, nil },
		},
	}
}

func withVerified(args rollout.Args) (rollout.Judgement, error) {
	want, err := cluster.ArgChoice(args, "linux_dataplane", string(BPF), string(BPF), string(Iptables))
	if err != nil {
		return nil, err
	}
	return func(l rollout.Look) (rollout.Finding, error) {
		f, err := Section.Get(l.Cluster)
		if err != nil {
			return rollout.Finding{}, err
		}
		var names, wrong []string
		for _, c := range f.Verify(DataPlane(want)) {
			names = append(names, c.Name)
			if !c.OK {
				wrong = append(wrong, c.Name+": "+c.Found)
			}
		}
		if len(wrong) > 0 {
			return rollout.Drifts("the data plane " + want + " does not hold; " + strings.Join(wrong, "; ")), nil
		}
		return rollout.Holds("%s", strings.Join(names, ", ")), nil
	}, nil
}

func judgeProven(l rollout.Look) (rollout.Finding, error) {
	s, err := FelixSection.Get(l.State)
	if err != nil {
		return rollout.Finding{}, err
	}
	if why := s.missing(BPF); why != "" {
		return rollout.Drifts("does not run the eBPF data plane", rollout.Field{Name: "Felix", Before: why, After: "its maps held, its programs attached"}), nil
	}
	return rollout.Holds("Felix runs the eBPF data plane: %d maps, programs on %s", s.Maps, strings.Join(s.Attached, ", ")), nil
}

func judgeKernel(l rollout.Look) (rollout.Finding, error) {
	host, err := node.Section.Get(l.State)
	if err != nil {
		return rollout.Finding{}, err
	}
	f, err := Section.Get(l.Cluster)
	if err != nil {
		return rollout.Finding{}, err
	}
	if f.Install == NoCalico {
		return rollout.Finding{}, &rollout.Problem{Message: "the cluster has no Calico", Hint: "leave this policy out"}
	}
	need, known := RequirementFor(f.CalicoVersion)
	if !known {
		return rollout.Finding{}, &rollout.Problem{
			Message: fmt.Sprintf("what Calico %q needs is not known", f.CalicoVersion),
			Hint:    "is the DaemonSet calico-node's image tagged with a version?",
		}
	}
	if why := need.Unmet(host.Running); why != "" {
		return rollout.Drifts("runs a kernel that Calico "+f.CalicoVersion+" cannot use for eBPF",
			rollout.Field{Name: "running kernel", Before: host.Running + ", " + why, After: need.String()}), nil
	}
	return rollout.Holds("%s is enough for Calico %s", host.Running, f.CalicoVersion), nil
}

// felixObserver asks each host over SSH what its Felix does.
type felixObserver struct{ d Deps }

func (felixObserver) Section() string { return FelixSection.Name() }

func (o felixObserver) Observe(ctx context.Context, keys map[string][]string) map[string]rollout.SectionObservation {
	type answer struct {
		host string
		so   rollout.SectionObservation
	}
	answers := make(chan answer, len(keys))
	var g errgroup.Group
	g.SetLimit(askAtOnce)
	for host := range keys {
		g.Go(func() error {
			so := rollout.SectionObservation{}
			so.Value, so.Err = o.one(ctx, host)
			answers <- answer{host, so}
			return nil
		})
	}
	_ = g.Wait() // an answer that is missing is an answer
	close(answers)
	out := make(map[string]rollout.SectionObservation, len(keys))
	for a := range answers {
		out[a.host] = a.so
	}
	return out
}

func (o felixObserver) one(ctx context.Context, host string) ([]byte, error) {
	res, err := o.d.Hosts.Run(ctx, host, sshexec.Command{Script: felixScript, Env: felixEnv(), Become: true, Timeout: askTimeout, Harmless: true})
	if err != nil {
		return nil, fmt.Errorf("cannot ask %s what its Felix does: %w", host, err)
	}
	if res.ExitStatus != 0 {
		return nil, fmt.Errorf("cannot ask %s what its Felix does: exit status %d: %q", host, res.ExitStatus, clipped(strings.TrimSpace(string(res.Stderr))))
	}
	return json.Marshal(parseFelix(string(res.Stdout)))
}
