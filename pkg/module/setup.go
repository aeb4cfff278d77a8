package module

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

//go:embed setup.sh
var setupScript string

// gatherer is what the modules have in common that tell facts: their result is
// variables of the host.
type gatherer struct{ observing }

func (gatherer) Diff(_ string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	return rollout.Change{Action: rollout.ReadOnly, Summary: "gather facts", Data: encode(args)}, before, nil
}

// mostFacts bounds what the facts of a host may be: they are in the journal.
const mostFacts = 4 << 20

// gather runs a script of notes, which are in hexadecimal, and says what they tell.
func (m gatherer) gather(ctx context.Context, s rollout.Step, script string, tell func(notes map[string]string, args rollout.Args) (map[string]any, error)) rollout.Outcome {
	var args rollout.Args
	if err := json.Unmarshal(s.Change.Data, &args); err != nil {
		return rollout.Fail(fmt.Errorf("cannot read which facts are asked for: %w", err))
	}
	res, err := run(ctx, m.hosts, s, sshexec.Command{Script: node.LookScript(nil, script) + "sees\n", Timeout: lookTimeout, MaxOutput: 2 * mostFacts})
	if err != nil {
		return rollout.Fail(err)
	}
	seen, err := node.ParseLook(res)
	if err != nil {
		return rollout.Fail(fmt.Errorf("cannot gather the facts of %s: %w", s.Host, err))
	}
	for name, note := range seen.Notes {
		seen.Notes[name] = printed([]byte(unhexed(note)))
	}
	facts, err := tell(seen.Notes, args)
	if err != nil {
		o := rollout.Fail(fmt.Errorf("cannot gather the facts of %s: %w", s.Host, err))
		o.Result = encode(map[string]any{"changed": false, "failed": true, "msg": err.Error()})
		return o
	}
	o := rollout.AlreadyDone("%d facts", len(facts))
	o.Result = encode(map[string]any{"changed": false, "failed": false, "ansible_facts": facts})
	return o
}

// setup is ansible.builtin.setup: what a node says of itself, under Ansible's names.
type setup struct{ gatherer }

func (setup) About() rollout.About {
	return rollout.About{Open: rollout.ReadOnly, Facts: true, Gathers: true, Params: rollout.Params{
		"filter": {Type: rollout.Strings, Help: "patterns of names of facts: others are left out"},
	}}
}

func (m setup) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	return m.gather(ctx, s, setupScript, func(notes map[string]string, args rollout.Args) (map[string]any, error) {
		if strings.TrimSpace(notes["kernel"]) == "" {
			return nil, errors.New("the node does not name its kernel")
		}
		return filtered(factsOf(notes), args)
	})
}

// filtered are the facts that any pattern names, with ansible_ before them or not.
func filtered(facts map[string]any, args rollout.Args) (map[string]any, error) {
	patterns, _ := args["filter"].([]any)
	if len(patterns) == 0 {
		return facts, nil
	}
	out := map[string]any{}
	for name, v := range facts {
		for _, p := range patterns {
			pattern, _ := p.(string)
			for _, n := range []string{name, strings.TrimPrefix(name, "ansible_")} {
				ok, err := path.Match(pattern, n)
				if err != nil {
					return nil, fmt.Errorf("filter %q is no pattern", pattern)
				}
				if ok {
					out[name] = v
				}
			}
		}
	}
	return out, nil
}

// packageFacts is ansible.builtin.package_facts, from rpm or dpkg.
type packageFacts struct{ gatherer }

func (packageFacts) About() rollout.About {
	return rollout.About{Open: rollout.ReadOnly, Facts: true, Gathers: true, Params: rollout.Params{
		"manager": {Type: rollout.Strings, Choices: []string{"auto", "rpm", "apt"}, Help: "auto, rpm or apt"},
	}}
}

const packagesScript = `
rpms() { command -v rpm >/dev/null && rpm -qa --qf '%{NAME}\t%{VERSION}\t%{RELEASE}\t%{EPOCH}\t%{ARCH}\n'; }
debs() { command -v dpkg-query >/dev/null && dpkg-query -W -f '${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\t${Section}\n' | sed -n 's/^installed	//p'; }
printf 'note rpm %s\n' "$(rpms 2>/dev/null | hex)"
printf 'note apt %s\n' "$(debs 2>/dev/null | hex)"
`

func (m packageFacts) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	return m.gather(ctx, s, packagesScript, packages)
}

func packages(notes map[string]string, args rollout.Args) (map[string]any, error) {
	managers := []any{"auto"}
	if given, ok := args["manager"].([]any); ok && len(given) > 0 {
		managers = given
	}
	if slices.Contains(managers, any("auto")) {
		managers = []any{"rpm", "apt"}
	}
	for _, m := range managers {
		name, _ := m.(string)
		out := map[string][]map[string]any{}
		for line := range strings.Lines(notes[name]) {
			w := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
			p := map[string]any{"source": name}
			switch {
			case name == "rpm" && len(w) == 5:
				p["name"], p["version"], p["release"], p["epoch"], p["arch"] = w[0], w[1], w[2], nil, w[4]
				if w[3] != "(none)" {
					p["epoch"] = json.Number(w[3])
				}
				if w[4] == "(none)" {
					p["arch"] = nil // a key
				}
			case name == "apt" && len(w) == 4:
				p["name"], p["version"], p["arch"], p["category"] = w[0], w[1], w[2], w[3]
			default:
				return nil, fmt.Errorf("%s says %q of a package", name, line)
			}
			out[w[0]] = append(out[w[0]], p)
		}
		if len(out) > 0 {
			return map[string]any{"packages": out}, nil
		}
	}
	return nil, errors.New("it has no packages of rpm or dpkg")
}

// serviceFacts is ansible.builtin.service_facts, from systemctl.
type serviceFacts struct{ gatherer }

func (serviceFacts) About() rollout.About {
	return rollout.About{Open: rollout.ReadOnly, Facts: true, Gathers: true, Params: rollout.Params{}}
}

const servicesScript = `
printf 'note units %s\n' "$(systemctl list-units --no-pager --no-legend --plain --type service --all 2>/dev/null | hex)"
printf 'note files %s\n' "$(systemctl list-unit-files --no-pager --no-legend --type service --all 2>/dev/null | hex)"
printf 'note init %s\n' "$(hex </proc/1/comm)"
`

func (m serviceFacts) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	return m.gather(ctx, s, servicesScript, func(notes map[string]string, _ rollout.Args) (map[string]any, error) {
		if !strings.Contains(notes["init"], "systemd") {
			return nil, errors.New("its services are not systemd's")
		}
		return map[string]any{"services": services(notes)}, nil
	})
}

// services are the units as Ansible tells of them: how each stands, and whether it
// starts by itself.
func services(notes map[string]string) map[string]map[string]any {
	out := map[string]map[string]any{}
	bad := []string{"not-found", "masked", "failed"}
	for line := range strings.Lines(notes["units"]) {
		w := strings.Fields(strings.TrimLeft(line, "●*x "))
		if len(w) < 4 {
			continue
		}
		status := w[2]
		for _, b := range bad {
			if slices.Contains(w[1:4], b) {
				status = b
				break
			}
		}
		state := "stopped"
		if w[3] == "running" {
			state = "running"
		}
		out[w[0]] = map[string]any{"name": w[0], "source": "systemd", "state": state, "status": status}
	}
	for line := range strings.Lines(notes["files"]) {
		w := strings.Fields(line)
		if len(w) < 2 {
			continue
		}
		s, loaded := out[w[0]]
		switch {
		case !loaded:
			// A unit that is not loaded is not active; templates are never.
			state := "inactive"
			if strings.Contains(w[0], "@.") {
				state = "unknown"
			}
			out[w[0]] = map[string]any{"name": w[0], "source": "systemd", "state": state, "status": w[1]}
		case !slices.Contains(bad, s["status"].(string)): // it was made above
			s["status"] = w[1]
		}
	}
	return out
}
