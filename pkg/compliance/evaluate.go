package compliance

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// Fleet is what is held against policies.
type Fleet struct {
	// Desired is the playbook. Hosts of it on which no module declares a state are left
	// out, but for those that a policy is for.
	Desired rollout.Desired
	Modules map[string]rollout.Differ
	// Observed is what was read of each host, and of the cluster under Localhost.
	Observed map[string]rollout.Observation
	// Kernel is what a host runs, as uname -r; "" if that was not read. nil: the report
	// does not tell.
	Kernel func(rollout.State) string
}

// Evaluate holds every host of the policies and of the playbook against them.
func Evaluate(p *Policies, f Fleet, now time.Time) Report {
	r := Report{Schema: Schema, At: now.UTC(), PolicyFile: p.file, Status: Compliant, Policies: p.shown()}
	names := p.hosts(f.Desired)
	of := p.byHost()
	r.Hosts, r.Kernels = make([]Host, len(names)), map[string]int{}
	kernels := make([]string, len(names)) // of each host
	cluster := f.Observed[rollout.Localhost]
	var wg sync.WaitGroup
	for w := range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := w; i < len(names); i += runtime.GOMAXPROCS(0) {
				o := f.Observed[names[i]]
				o.State = o.State.Unread() // decoded, 10,000 hosts are too much to hold
				h := Host{Name: names[i], Status: Compliant, Problem: o.Problem, Findings: []Finding{}}
				if p.playbook {
					f.declared(&h, o)
				}
				look := rollout.Look{Host: h.Name, State: o.State, Cluster: cluster.State, Now: now}
				for _, pol := range of[h.Name] {
					h.Findings = append(h.Findings, pol.hold(look, o, cluster)...)
				}
				p.waive(&h, now)
				for _, found := range h.Findings {
					h.Status = worse(h.Status, found.Status)
				}
				if h.Problem != nil {
					h.Status = worse(h.Status, Unknown)
				}
				if f.Kernel != nil {
					kernels[i] = f.Kernel(o.State)
				}
				r.Hosts[i] = h
			}
		})
	}
	wg.Wait()
	for i, h := range r.Hosts {
		r.Status = worse(r.Status, h.Status)
		if h.Name != rollout.Localhost && f.Kernel != nil {
			r.Kernels[kernels[i]]++
		}
	}
	r.Notes = p.notes(r.Hosts, now)
	return r
}

// declared holds a host against what the playbook's modules declare.
func (f Fleet) declared(h *Host, o rollout.Observation) {
	state := o.State
	for _, play := range f.Desired.Plays {
		for _, task := range play.Tasks {
			args, here := task.Args[h.Name]
			m := f.Modules[task.Module]
			if !here || m == nil || m.About().Rule == "" || missing(m.Reads(args), state) {
				continue
			}
			findings, after, err := judge(m, h.Name, state, args)
			for _, found := range findings {
				h.Findings = append(h.Findings, reported(PlaybookPolicy, found))
			}
			if err != nil {
				h.Problem = rollout.AsProblem(err)
				return // the tasks behind it build on what this one leaves
			}
			state = after
		}
	}
}

// judge holds one task against the state of a host. It returns the state that
// the task would leave as well: the tasks behind it are judged on that one, so
// that a kernel which is not installed is one finding and not three. What a
// Judge has found stands, also where Diff then cannot say how to mend it.
func judge(m rollout.Differ, host string, state rollout.State, args rollout.Args) ([]rollout.Finding, rollout.State, error) {
	var own []rollout.Finding
	j, itself := m.(rollout.Judge)
	if itself {
		var err error
		if own, err = j.Judge(host, state, args); err != nil {
			return nil, state, err
		}
	}
	change, after, err := m.Diff(host, state, args)
	if err != nil {
		return own, state, err
	}
	if itself {
		return own, after, nil
	}
	f := rollout.Finding{Rule: m.About().Rule, Text: change.Summary}
	if change.Action.Writes() {
		f.Drift, f.Text, f.Fields = true, "would "+change.Summary, change.Fields
	}
	return []rollout.Finding{f}, after, nil
}

// hold holds a host against one policy.
func (p *policy) hold(look rollout.Look, o, cluster rollout.Observation) []Finding {
	if missing(p.reads, look.State) {
		if o.Problem != nil {
			return nil // which says it once for all policies
		}
		return []Finding{p.unknown(errors.New("nothing was observed of the host"))}
	}
	if missing(p.cluster, look.Cluster) {
		err := error(&rollout.Problem{Message: "nothing was observed of the cluster"})
		if cluster.Problem != nil {
			err = cluster.Problem
		}
		if look.Host == rollout.Localhost && o.Problem != nil {
			return nil
		}
		return []Finding{p.unknown(err)}
	}
	found, err := p.judge(look)
	var out []Finding
	for _, f := range found {
		if f.Rule == "" {
			f.Rule = p.Rule
		}
		out = append(out, reported(p.Name, f))
	}
	if err != nil {
		out = append(out, p.unknown(err))
	}
	return out
}

// missing reports whether something that has to be known was not read. Why not is the
// host's problem.
func missing(reads []rollout.Read, state rollout.State) bool {
	return slices.ContainsFunc(reads, func(r rollout.Read) bool { return !state.Has(r.Section) })
}

func (p *policy) unknown(err error) Finding {
	problem := rollout.AsProblem(err)
	return Finding{Policy: p.Name, Rule: p.Rule, Status: Unknown, Text: problem.Message, Hint: problem.Hint}
}

// reported is a finding in the form of the report.
func reported(policy string, f rollout.Finding) Finding {
	out := Finding{Policy: policy, Rule: f.Rule, Status: Compliant, Text: f.Text}
	if f.Drift {
		out.Status = Drift
	}
	for _, v := range f.Fields {
		out.Fields = append(out.Fields, Difference{Name: v.Name, Is: v.Before, Want: v.After})
	}
	return out
}

// waive marks what somebody has answered for.
func (p *Policies) waive(h *Host, now time.Time) {
	for i := range h.Findings {
		f := &h.Findings[i]
		if f.Status != Drift {
			continue
		}
		for _, w := range p.waivers {
			if w.policy != f.Policy || w.rule != "" && w.rule != f.Rule || !w.hosts[h.Name] {
				continue
			}
			waiver := w.Waiver
			waiver.Expired = w.expired(now)
			f.Waiver = &waiver
			if !waiver.Expired {
				f.Status = Waived
				break // one that holds excuses, whatever else has expired
			}
		}
	}
}

func (w *waiver) expired(now time.Time) bool { return !now.Before(w.Expires.AddDate(0, 0, 1)) }

// soon is how long before its end a waiver is spoken of.
const soon = 14 * 24 * time.Hour

// notes says which waivers need somebody's attention.
func (p *Policies) notes(hosts []Host, now time.Time) (out []string) {
	for _, w := range p.waivers {
		of := fmt.Sprintf("%s: the waiver of %s for %q", w.at, w.Owner, w.policy)
		needed := slices.ContainsFunc(hosts, func(h Host) bool {
			if !w.hosts[h.Name] {
				return false
			}
			return h.Problem != nil || slices.ContainsFunc(h.Findings, func(f Finding) bool {
				return f.Policy == w.policy && (w.rule == "" || w.rule == f.Rule) && f.Status != Compliant
			})
		})
		day := w.Expires.Format(time.DateOnly)
		switch {
		case !needed:
			out = append(out, of+" excuses nothing that was found; remove it")
		case w.expired(now):
			out = append(out, of+" has expired on "+day+"; what it excused counts again")
		case w.expired(now.Add(soon)):
			out = append(out, of+" expires on "+day)
		}
	}
	return out
}
