package docs

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/bpf"
	"github.com/fleetd/fleetd/pkg/calico"
	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/kernel"
	fleetdmodule "github.com/fleetd/fleetd/pkg/module"
	"github.com/fleetd/fleetd/pkg/playbook"
	"github.com/fleetd/fleetd/pkg/playbook/jinja"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// TestPlaybooks: the page of what a playbook may hold is what the code's own tables
// say. UPDATE_GOLDEN writes it.
func TestPlaybooks(t *testing.T) {
	differences, err := os.ReadFile("ansible-differences.md")
	if err != nil {
		t.Fatal(err)
	}
	p := page{different: map[string]bool{}}
	for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(string(differences), -1) {
		p.different[m[1]] = true
	}
	got := p.write()
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile("playbooks.md", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile("playbooks.md")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("playbooks.md is not what the code says; UPDATE_GOLDEN=1 go test ./docs writes it (-page +code)\n%s", d)
	}
}

type page struct {
	strings.Builder
	different map[string]bool
}

func (p *page) say(format string, a ...any) { fmt.Fprintf(p, format+"\n", a...) }

func (p *page) write() string {
	p.say("# What a playbook may hold\n")
	p.say("Every keyword, module, parameter, filter and test of Ansible that fleetd knows of, from")
	p.say("the tables that it goes by. What is refused is refused before anything is touched, with")
	p.say("its place. A star means that something is different from Ansible, or only narrower:")
	p.say("[ansible-differences.md](ansible-differences.md) says what. How the modules are used in")
	p.say("a plan is in [guide.md](guide.md).\n")
	p.say("*Written by `UPDATE_GOLDEN=1 go test ./docs`; do not edit.*\n")
	p.keywords()
	modules := map[string]rollout.Module{}
	for _, set := range []map[string]rollout.Module{
		kernel.Modules(nil), cluster.Modules(cluster.Deps{}), calico.Modules(calico.Deps{}), bpf.Modules(bpf.Deps{}), fleetdmodule.Modules(nil),
	} {
		maps.Copy(modules, set)
	}
	p.modules("Modules of Ansible's own", "ansible.builtin.", modules)
	p.refused(modules)
	p.modules("fleetd's own modules", "fleetd.", modules)
	p.words("Filters", jinja.Filters())
	p.words("Tests", jinja.Tests())
	return strings.TrimRight(p.String(), "\n") + "\n"
}

func (p *page) keywords() {
	p.say("## Keywords")
	place := ""
	for _, k := range playbook.Keywords() {
		if k.Place != place {
			place = k.Place
			p.say("\n### In %s %s\n", map[bool]string{true: "an", false: "a"}[strings.HasPrefix(place, "i")], strings.ReplaceAll(place, "_", "\\_"))
			p.say("| Keyword | |\n|---|---|")
		}
		if k.Refused != "" {
			p.say("| `%s` | refused: %s |", k.Name, k.Refused)
		} else {
			p.say("| `%s`%s | supported |", k.Name, p.star(k.Name))
		}
	}
	p.say("")
}

func (p *page) star(name string) string {
	if p.different[name] {
		return " *"
	}
	return ""
}

func (p *page) modules(title, prefix string, modules map[string]rollout.Module) {
	p.say("## %s\n", title)
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		short := playbook.Short(name)
		p.say("### %s%s\n", short, p.star(short))
		params := modules[name].About().Params
		var rows []string
		for _, param := range slices.Sorted(maps.Keys(params)) {
			if param == rollout.EnvironmentParam {
				continue // the keyword
			}
			rows = append(rows, row2(param, params[param]))
		}
		if len(rows) == 0 {
			p.say("It takes no parameters.\n")
			continue
		}
		p.say("| Parameter | Type | |\n|---|---|---|\n%s\n", strings.Join(rows, "\n"))
	}
}

func row2(name string, p rollout.Param) string {
	if name == rollout.AnyName {
		name = "any name"
	}
	kind := string(p.Type)
	if len(p.Choices) > 0 {
		kind = strings.Join(p.Choices, ", ")
	}
	help := strings.ReplaceAll(p.Help, "|", "\\|")
	if p.Required {
		help += " (required)"
	}
	return fmt.Sprintf("| `%s` | %s | %s |", name, kind, help)
}

func (p *page) refused(have map[string]rollout.Module) {
	p.say("### Refused\n\nOf Ansible's own modules and actions these are known and refused:\n")
	refused := playbook.Refused()
	for _, name := range slices.Sorted(maps.Keys(refused)) {
		if _, ok := have["ansible.builtin."+name]; ok {
			continue
		}
		if why := refused[name]; why != "" {
			p.say("- `%s`: %s", name, why)
		} else {
			p.say("- `%s`", name)
		}
	}
	p.say("")
}

func (p *page) words(title string, words []jinja.Word) {
	p.say("## %s\n", title)
	var have []string
	for _, w := range words {
		if !w.Refused {
			have = append(have, fmt.Sprintf("`%s`%s", w.Name, p.star(w.Name)))
		}
	}
	p.say("%s\n\nRefused:\n", strings.Join(have, ", "))
	for _, w := range words {
		switch {
		case !w.Refused:
		case w.Why != "":
			p.say("- `%s`: %s", w.Name, w.Why)
		default:
			p.say("- `%s`", w.Name)
		}
	}
	p.say("")
}
