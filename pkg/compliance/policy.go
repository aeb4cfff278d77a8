package compliance

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/yaml"
)

// Options are what policies can ask, and of whom.
type Options struct {
	// Rules are those that a policy can name. The rules of Modules are, too.
	Rules   []rollout.Rule
	Modules map[string]rollout.Differ
	// Facts are what an expression can ask.
	Facts []Fact
	// Hosts are the hosts of a pattern, of those that are looked at. The error of one
	// that selects nothing is a mistake in the file.
	Hosts func(pattern string) ([]string, error)
}

// Policies are what a fleet is held against.
type Policies struct {
	file     string
	playbook bool
	policies []*policy
	waivers  []*waiver
}

// policy is one of the file, ready to judge.
type policy struct {
	Policy
	on []string
	compiled
}

// compiled is a rule with its arguments.
type compiled struct {
	judge func(rollout.Look) ([]rollout.Finding, error)
	// reads are of the host, cluster of Localhost.
	reads, cluster []rollout.Read
}

type waiver struct {
	Waiver
	policy, rule string
	hosts        map[string]bool
	at           text.Place
}

// defaults are the policies without a file. They ask for nothing that needs a number
// or a name which only the owner of the fleet knows.
const defaults = `
policies:
  - name: the kernel that runs is the newest installed and the default
    rule: kernel-current
  - name: no update waits for a reboot
    rule: reboot-pending
    severity: low
`

// Default are the policies without a file: what the playbook wants, and rules that hold
// for every fleet.
func Default(o Options) (*Policies, error) {
	p, err := Load(&text.Source{Name: "(default policies)", Data: defaults}, o)
	if err != nil {
		return nil, err
	}
	p.file = ""
	for _, pol := range p.policies {
		pol.At = rollout.Position{}
	}
	return p, nil
}

// limits are generous for a file that people write.
var limits = yaml.Limits{Depth: 20, Expansion: 10_000}

// Load reads policies. Every mistake is told with its place and what would be right.
func Load(src *text.Source, o Options) (*Policies, error) {
	doc, err := yaml.Parse(src, limits)
	if err != nil {
		return nil, err
	}
	l := &loader{Options: o, src: src, rules: rulesOf(o)}
	if doc.Root == nil {
		return nil, src.Errorf(1, 0, "Name at least one policy; docs/compliance.md has examples.", "the file is empty")
	}
	l.r = doc.Reader(yaml.Options{Duplicates: "error"})
	p, err := l.policies(doc.Root)
	if err != nil {
		return nil, err
	}
	p.file = src.Name
	return p, nil
}

// loader reads one file.
type loader struct {
	Options
	src   *text.Source
	r     *yaml.Reader
	rules map[string]rule
}

func (l *loader) policies(root *yaml.Node) (*Policies, error) {
	top, err := l.fields(root, "the file", fieldsOfFile)
	if err != nil {
		return nil, err
	}
	p := &Policies{playbook: true}
	if n := top["playbook"]; n != nil {
		if p.playbook, err = l.bool(n, "playbook"); err != nil {
			return nil, err
		}
	}
	names := map[string]*policy{}
	err = l.each(top["policies"], "policies", func(n *yaml.Node) error {
		pol, err := l.policy(n)
		if err != nil {
			return err
		}
		if pol.Name == PlaybookPolicy {
			return l.errorf(n, "Take another name.", "%q is the name of what the playbook wants", PlaybookPolicy)
		}
		if names[pol.Name] != nil {
			return l.errorf(n, "Give each policy a name of its own; the history goes by it.", "there are two policies with the name %q", pol.Name)
		}
		names[pol.Name] = pol
		p.policies = append(p.policies, pol)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !p.playbook && len(p.policies) == 0 {
		return nil, l.errorf(root, "Name at least one policy, or leave out playbook: false.", "there is nothing to hold a host against")
	}
	return p, l.each(top["waivers"], "waivers", func(n *yaml.Node) error {
		w, err := l.waiver(n, names, p.playbook)
		if err == nil {
			p.waivers = append(p.waivers, w)
		}
		return err
	})
}

func (l *loader) policy(n *yaml.Node) (*policy, error) {
	f, err := l.fields(n, "a policy", fieldsOfPolicy)
	if err != nil {
		return nil, err
	}
	p := &policy{Policy: Policy{Severity: Medium, At: rollout.Position{File: l.src.Name, Line: n.Line, Column: n.Column}}}
	if p.Name, err = l.text(f["name"], "name"); err != nil {
		return nil, err
	}
	if p.Rule, err = l.text(f["rule"], "rule"); err != nil {
		return nil, err
	}
	r, known := l.rules[p.Rule]
	if !known {
		return nil, l.errorf(f["rule"], "There are: "+joined(sorted(l.rules))+".", "there is no rule %q", p.Rule)
	}
	if s := f["severity"]; s != nil {
		choice, err := l.choice(s, "severity", string(Low), string(Medium), string(High))
		if err != nil {
			return nil, err
		}
		p.Severity = Severity(choice)
	}
	if x := f["fix"]; x != nil {
		if p.Fix, err = l.text(x, "fix"); err != nil {
			return nil, err
		}
	}
	args, err := l.args(r, n, f["with"])
	if err != nil {
		return nil, err
	}
	if p.compiled, err = r.with(args); err != nil {
		return nil, l.wrong(cmp.Or(f["with"], n), err)
	}
	switch {
	case !r.Cluster:
		if p.on, err = l.hosts(f["hosts"]); err == nil && slices.Contains(p.on, rollout.Localhost) {
			err = l.errorf(f["hosts"], "Name hosts, or leave hosts out for all of them.", "the rule %s is about hosts, and not about the cluster", p.Rule)
		}
	case f["hosts"] != nil:
		err = l.errorf(f["hosts"], "Leave out hosts.", "the rule %s is about the cluster, and not about hosts", p.Rule)
	default:
		p.on, err = l.Hosts(rollout.Localhost) // which --limit leaves out
	}
	return p, err
}

func (l *loader) waiver(n *yaml.Node, policies map[string]*policy, playbook bool) (*waiver, error) {
	f, err := l.fields(n, "a waiver", fieldsOfWaiver)
	if err != nil {
		return nil, err
	}
	w := &waiver{at: l.src.At(n.Line, n.Column), hosts: map[string]bool{}}
	for name, to := range map[string]*string{"policy": &w.policy, "owner": &w.Owner, "reason": &w.Reason, "rule": &w.rule} {
		if name == "rule" && f[name] == nil {
			continue
		}
		if *to, err = l.text(f[name], name); err != nil {
			return nil, err
		}
	}
	of := policies[w.policy]
	if of == nil && (w.policy != PlaybookPolicy || !playbook) {
		return nil, l.errorf(f["policy"], "Name a policy of this file, or "+PlaybookPolicy+" for what the playbook wants.", "there is no policy %q", w.policy)
	}
	day, err := l.text(f["expires"], "expires")
	if err != nil {
		return nil, err
	}
	if w.Expires, err = time.Parse(time.DateOnly, day); err != nil {
		return nil, l.errorf(f["expires"], "Give the last day on which it holds, as 2027-01-31.", "%q is no day", day)
	}
	hosts, err := l.hosts(f["hosts"])
	if f["hosts"] == nil {
		hosts = append(hosts, rollout.Localhost)
	}
	for _, h := range hosts {
		w.hosts[h] = true
	}
	if of != nil { // of hosts that the policy is not about it excuses nothing
		on := map[string]bool{}
		for _, h := range of.on {
			on[h] = true
		}
		maps.DeleteFunc(w.hosts, func(h string, _ bool) bool { return !on[h] })
	}
	return w, err
}

// hosts are those of a pattern; all of them where there is none.
func (l *loader) hosts(n *yaml.Node) ([]string, error) {
	pattern := "all"
	if n != nil {
		var err error
		if pattern, err = l.text(n, "hosts"); err != nil {
			return nil, err
		}
	}
	if pattern == rollout.Localhost {
		return []string{rollout.Localhost}, nil
	}
	hosts, err := l.Hosts(pattern)
	if err != nil {
		return nil, l.errorf(n, "It is a pattern as of a play's hosts: a group, a host, \"all:!canary\".", "hosts: %v", err)
	}
	return hosts, nil
}

// Wants are what has to be observed, by section and host the keys.
func (p *Policies) Wants() map[string]map[string][]string {
	out := map[string]map[string][]string{}
	add := func(host string, reads []rollout.Read) {
		for _, r := range reads {
			if out[r.Section] == nil {
				out[r.Section] = map[string][]string{}
			}
			if keys := out[r.Section][host]; !slices.Contains(keys, r.Key) {
				out[r.Section][host] = append(keys, r.Key)
			}
		}
	}
	for _, pol := range p.policies {
		for _, h := range pol.on {
			add(h, pol.reads)
		}
		add(rollout.Localhost, pol.cluster)
	}
	return out
}

// Hosts are those that policies are for, but for the cluster.
func (p *Policies) Hosts() []string {
	var out []string
	for _, h := range p.hosts(rollout.Desired{}) {
		if h != rollout.Localhost {
			out = append(out, h)
		}
	}
	return out
}

// Playbook reports whether hosts are held against what the playbook wants, too.
func (p *Policies) Playbook() bool { return p.playbook }

// hosts are those of the playbook, as it has them, and those that policies are for.
func (p *Policies) hosts(d rollout.Desired) (out []string) {
	seen := map[string]bool{}
	add := func(hosts []string) {
		for _, h := range hosts {
			if !seen[h] {
				seen[h] = true
				out = append(out, h)
			}
		}
	}
	if p.playbook {
		for _, play := range d.Plays {
			for _, batch := range play.Batches {
				add(batch)
			}
		}
	}
	for _, pol := range p.policies {
		add(pol.on)
	}
	return out
}

// byHost are the policies of each host.
func (p *Policies) byHost() map[string][]*policy {
	out := map[string][]*policy{}
	for _, pol := range p.policies {
		for _, h := range pol.on {
			out[h] = append(out[h], pol)
		}
	}
	return out
}

func (p *Policies) shown() (out []Policy) {
	if p.playbook {
		out = append(out, Policy{Name: PlaybookPolicy, Severity: High})
	}
	for _, pol := range p.policies {
		out = append(out, pol.Policy)
	}
	return out
}
