package engine

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// Observe reads what the playbook's modules have to know of each host, section
// by section, every section once per host. It only reads. A host of which any
// section could not be read has a Problem in its observation.
func Observe(ctx context.Context, d rollout.Desired, modules map[string]rollout.Module, observers []rollout.Observer) (map[string]rollout.Observation, error) {
	return ObserveAlso(ctx, d, modules, nil, observers)
}

// ObserveAlso is Observe of a playbook and of more, by section and host the keys.
func ObserveAlso(ctx context.Context, d rollout.Desired, modules map[string]rollout.Module, also map[string]map[string][]string, observers []rollout.Observer) (map[string]rollout.Observation, error) {
	wanted, err := reads(d, modules, observers)
	if err != nil {
		return nil, err
	}
	for section, hosts := range also {
		known, ok := wanted[section]
		if !ok {
			return nil, fmt.Errorf("nobody observes section %q", section)
		}
		for host, keys := range hosts {
			known[host] = slices.Compact(slices.Sorted(slices.Values(slices.Concat(known[host], keys))))
		}
	}
	return observe(ctx, wanted, observers)
}

// Look reads what the observers always hold, by section the hosts to read it of.
func Look(ctx context.Context, sections map[string][]string, observers []rollout.Observer) (map[string]rollout.Observation, error) {
	wanted := map[string]map[string][]string{}
	for section, hosts := range sections {
		wanted[section] = map[string][]string{}
		for _, h := range hosts {
			wanted[section][h] = []string{""}
		}
	}
	return observe(ctx, wanted, observers)
}

func observe(ctx context.Context, wanted map[string]map[string][]string, observers []rollout.Observer) (map[string]rollout.Observation, error) {
	answers := make([]map[string]rollout.SectionObservation, len(observers))
	var wg sync.WaitGroup
	for i, o := range observers {
		if len(wanted[o.Section()]) > 0 {
			wg.Go(func() { answers[i] = o.Observe(ctx, wanted[o.Section()]) })
		}
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("cannot observe the fleet: %w", err)
	}
	out := map[string]rollout.Observation{}
	for i, o := range observers {
		for host := range wanted[o.Section()] {
			merge(out, host, o.Section(), answers[i][host])
		}
	}
	return out, nil
}

// reads collects the keys to read by section and host, each once.
func reads(d rollout.Desired, modules map[string]rollout.Module, observers []rollout.Observer) (map[string]map[string][]string, error) {
	known := map[string]map[string][]string{}
	for _, o := range observers {
		known[o.Section()] = map[string][]string{}
	}
	for _, play := range d.Plays {
		for _, t := range play.Tasks {
			m, ok := modules[t.Module]
			if !ok {
				return nil, fmt.Errorf("%s: there is no module %q", t.Position, t.Module)
			}
			for host := range hostsOf(t) {
				args, at := t.Args[host], host // no arguments where the run decides them
				if on := t.On[host]; on != "" {
					args, at = nil, on // what is there is looked at when its turn comes
				}
				for _, r := range m.Reads(args) {
					hosts, ok := known[r.Section]
					if !ok {
						return nil, fmt.Errorf("%s: nobody observes section %q that %s reads", t.Position, r.Section, t.Module)
					}
					if !slices.Contains(hosts[at], r.Key) {
						hosts[at] = append(hosts[at], r.Key)
					}
				}
			}
		}
	}
	for _, hosts := range known {
		for _, keys := range hosts {
			slices.Sort(keys)
		}
	}
	return known, nil
}

// hostsOf are the hosts that a task is for.
func hostsOf(t rollout.Task) iter.Seq[string] {
	return func(yield func(string) bool) {
		for host := range t.Args {
			if !yield(host) {
				return
			}
		}
		for host := range t.Open {
			if _, seen := t.Args[host]; !seen && !yield(host) {
				return
			}
		}
	}
}

func merge(out map[string]rollout.Observation, host, section string, so rollout.SectionObservation) {
	ob := out[host]
	for k, v := range so.Identity {
		if ob.Identity == nil {
			ob.Identity = map[string]string{}
		}
		ob.Identity[k] = v
	}
	if ob.Down == "" {
		ob.Down = so.Down
	}
	ob.ControlPlane = ob.ControlPlane || so.ControlPlane
	switch {
	case so.Err != nil:
		// The first problem of a host is the one to mend first.
		if ob.Problem == nil {
			ob.Problem = rollout.AsProblem(so.Err)
		}
	default:
		if ob.State == nil {
			ob.State = rollout.State{}
		}
		ob.State[section] = rollout.Encoded(so.Value)
	}
	out[host] = ob
}
