package inventory_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/fleetd/fleetd/inventory/export"
	"github.com/fleetd/fleetd/inventory/local"
	"github.com/fleetd/fleetd/pkg/ansibletest"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
	"github.com/fleetd/fleetd/pkg/yaml"
)

var update = flag.Bool("update", false, "ask the real Ansible and write its answers into testdata/corpus")

// A corpus file is a txtar: free text, then one command per line, each with
// what the real Ansible answers in a file "want: <command>".
//
//	args …            options for all commands that follow: -i, -e, …
//	env NAME=value
//	chmod PATH        make executable
//	list, list --yaml, list --export, host NAME, graph, graph --vars …
//	match PATTERN … [limit=PATTERN]
//
// "differs: reason" says that fleetd answers differently on purpose; its own
// answer is then in "fleetd: <command>", and docs/ansible-differences.md
// explains. A trailing "\" in a file stands for a trailing blank.
type corpusCase struct {
	path     string
	archive  *txtar.Archive
	args     []string
	env      map[string]string
	chmod    []string
	commands []string
	differs  bool
}

func readCorpus(t testing.TB) []*corpusCase {
	t.Helper()
	paths, err := filepath.Glob("testdata/corpus/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	var cases []*corpusCase
	for _, p := range paths {
		a, err := txtar.ParseFile(p)
		if err != nil {
			t.Fatal(err)
		}
		c := &corpusCase{path: p, archive: a, env: map[string]string{}}
		for line := range strings.Lines(string(a.Comment)) {
			line = strings.TrimSpace(line)
			verb, rest, _ := strings.Cut(line, " ")
			switch verb {
			case "args":
				c.args = strings.Fields(rest)
			case "env":
				k, v, _ := strings.Cut(rest, "=")
				c.env[k] = v
			case "chmod":
				c.chmod = append(c.chmod, rest)
			case "differs:":
				c.differs = true
			case "list", "host", "graph", "match":
				c.commands = append(c.commands, line)
			}
		}
		if len(c.commands) == 0 {
			t.Fatalf("%s asks nothing", p)
		}
		cases = append(cases, c)
	}
	return cases
}

func (c *corpusCase) file(name string) (string, bool) {
	for _, f := range c.archive.Files {
		if f.Name == name {
			return string(f.Data), true
		}
	}
	return "", false
}

// unpack writes the case's files into a new folder.
func (c *corpusCase) unpack(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range c.archive.Files {
		if strings.HasPrefix(f.Name, "want: ") || strings.HasPrefix(f.Name, "fleetd: ") {
			continue
		}
		p := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		data := bytes.ReplaceAll(f.Data, []byte("\\\n"), []byte(" \n"))
		if err := os.WriteFile(p, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range c.chmod {
		if err := os.Chmod(filepath.Join(dir, p), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func (c *corpusCase) question(command, dir string) question {
	q := question{Dir: dir, Env: c.env}
	words := strings.Fields(command)
	if words[0] == "match" {
		q.Match, q.Limit = matchArgs(words[1:])
		for i, a := range c.args {
			if a == "-i" {
				s := c.args[i+1]
				if !strings.Contains(s, ",") {
					s = filepath.Join(dir, s)
				}
				q.Sources = append(q.Sources, s)
			}
		}
		return q
	}
	q.Argv = append(append([]string(nil), c.args...), "--"+words[0])
	q.Argv = append(q.Argv, words[1:]...)
	return q
}

func matchArgs(words []string) (patterns []string, limit string) {
	for _, w := range words {
		if l, ok := strings.CutPrefix(w, "limit="); ok {
			limit = l
		} else {
			patterns = append(patterns, w)
		}
	}
	return patterns, limit
}

// request is the case's options as fleetd takes them.
func (c *corpusCase) request(dir string) (local.Request, export.Options) {
	req := local.Request{Dir: dir, Env: func(name string) (string, bool) {
		v, ok := c.env[name]
		return v, ok
	}}
	opts := export.Options{ShowSecrets: true}
	for i := 0; i+1 < len(c.args); i += 2 {
		switch v := c.args[i+1]; c.args[i] {
		case "-i":
			req.Sources = append(req.Sources, v)
		case "-e":
			req.ExtraVars = append(req.ExtraVars, v)
		case "--vault-password-file":
			req.VaultPasswordFiles = append(req.VaultPasswordFiles, v)
		case "--vault-id":
			req.VaultIDs = append(req.VaultIDs, v)
		case "--playbook-dir":
			req.PlaybookDir = v
			opts.PlaybookDirGiven = true
		default:
			panic("unknown option " + c.args[i] + " in " + c.path)
		}
	}
	return req, opts
}

// fleetdAnswer runs one command with this package.
func (c *corpusCase) fleetdAnswer(command, dir string) string {
	req, opts := c.request(dir)
	told := func(err error) string { return "error: " + strings.ReplaceAll(err.Error(), dir, "DIR") + "\n" }
	inv, _, err := local.Load(context.Background(), req)
	if err != nil {
		return told(err)
	}
	var b bytes.Buffer
	words := strings.Fields(command)
	yaml := strings.Contains(command, "--yaml")
	opts.Export = strings.Contains(command, "--export")
	switch words[0] {
	case "list":
		if yaml {
			err = export.YAML(&b, inv, opts)
		} else {
			err = export.List(&b, inv, opts)
		}
	case "host":
		err = export.Host(&b, inv, words[1], yaml, opts)
	case "graph":
		group := ""
		if len(words) > 1 && !strings.HasPrefix(words[1], "-") {
			group = words[1]
		}
		err = export.Graph(&b, inv, group, strings.Contains(command, "--vars"), opts)
	case "match":
		patterns, limit := matchArgs(words[1:])
		var hosts []string
		if hosts, err = inv.Match(patterns...); err == nil {
			hosts, err = inv.Limit(hosts, limit)
		}
		if err != nil {
			return "error\n"
		}
		for _, h := range hosts {
			fmt.Fprintln(&b, h)
		}
	}
	var e *text.Error
	switch {
	case errors.As(err, &e) && words[0] != "graph":
		return told(err)
	case err != nil:
		return fmt.Sprintf("exit %d\n", map[bool]int{true: 5, false: 1}[errors.Is(err, export.ErrNotOneHost) || errors.Is(err, export.ErrNotAGroup)])
	}
	return b.String()
}

// unsorted are the cases with dictionaries whose keys Python cannot compare: then
// Ansible sorts nothing in the whole document.
var unsorted = map[string]bool{"project-ceph": true, "yaml-mixed-keys": true, "yaml-structures": true}

// shapeOf is an answer as it is compared: to the byte, but for YAML, of which
// fleetd writes the shape that ansible-inventory does.
func shapeOf(t testing.TB, name, command, answer string) string {
	t.Helper()
	isText := strings.HasPrefix(command, "graph") || strings.HasPrefix(command, "match") || strings.HasPrefix(answer, "exit ") || strings.HasPrefix(answer, "error")
	if isText || !strings.Contains(command, "--yaml") && !unsorted[name] {
		return answer
	}
	return shape(t, answer)
}

// shape is a JSON or YAML document with sorted keys, one value a line.
func shape(t testing.TB, document string) string {
	t.Helper()
	d, err := yaml.Parse(&text.Source{Name: "answer", Data: document}, yaml.Limits{Depth: 1000, Expansion: 1 << 30})
	if err != nil {
		t.Fatalf("%v in\n%s", err, document)
	}
	v, err := d.Reader(yaml.Options{Vault: func(cipher string, _ text.Place) any { return "vault: " + strings.TrimSpace(cipher) }}).Value(d.Root)
	if err != nil {
		t.Fatalf("%v in\n%s", err, document)
	}
	var b strings.Builder
	draw(&b, v, "")
	return b.String()
}

func draw(b *strings.Builder, v any, indent string) {
	switch v := v.(type) {
	case *value.Map:
		if v.Len() == 0 {
			fmt.Fprintf(b, "%s{}\n", indent)
		}
		for _, e := range v.Sorted() {
			fmt.Fprintf(b, "%s%s:\n", indent, value.Word(e.Key))
			draw(b, e.Value, indent+"  ")
		}
	case []any:
		if len(v) == 0 {
			fmt.Fprintf(b, "%s[]\n", indent)
		}
		for _, x := range v {
			fmt.Fprintf(b, "%s-\n", indent)
			draw(b, x, indent+"  ")
		}
	default:
		fmt.Fprintf(b, "%s%s\n", indent, value.Repr(v))
	}
}

// text is an answer as the corpus keeps it. Host localhost shows the Python
// of Ansible, which fleetd has not.
func (a answer) text() string {
	if a.RC != 0 {
		return fmt.Sprintf("exit %d\n", a.RC)
	}
	return a.Out
}

// TestCorpus compares what this package answers with what the real Ansible
// answered when the corpus was written.
func TestCorpus(t *testing.T) {
	if *update {
		updateCorpus(t)
	}
	cases := readCorpus(t)
	if len(cases) < 60 {
		t.Errorf("the corpus has %d inventories, 60 are the least", len(cases))
	}
	for _, c := range cases {
		name := strings.TrimSuffix(filepath.Base(c.path), ".txtar")
		t.Run(name, func(t *testing.T) {
			dir := c.unpack(t)
			for _, command := range c.commands {
				want, ok := c.file("want: " + command)
				if !ok {
					t.Fatalf("%q has no answer; run go test -run Corpus -update", command)
				}
				ansible := want
				if own, ok := c.file("fleetd: " + command); ok {
					if !c.differs {
						t.Errorf("%q differs without a reason", command)
					}
					want = own
				}
				got := c.fleetdAnswer(command, dir)
				same := func(want string) string {
					return cmp.Diff(shapeOf(t, name, command, want), shapeOf(t, name, command, got))
				}
				if d := same(want); d != "" {
					t.Errorf("%s (-want +got):\n%s", command, d)
				}
				if want != ansible && same(ansible) == "" {
					t.Errorf("%s does not differ any more", command)
				}
			}
		})
	}
}

// TestCorpusLive asks the real Ansible again, so that the stored answers stay
// true for the version that is installed.
func TestCorpusLive(t *testing.T) {
	ansibletest.Python(t)
	cases := readCorpus(t)
	var questions []question
	for _, c := range cases {
		dir := c.unpack(t)
		for _, command := range c.commands {
			questions = append(questions, c.question(command, dir))
		}
	}
	answers := ask(t, questions)
	i := 0
	for _, c := range cases {
		for _, command := range c.commands {
			if want, _ := c.file("want: " + command); want != answers[i].text() {
				t.Errorf("%s: %s: the stored answer is not Ansible's (-stored +ansible):\n%s", c.path, command, cmp.Diff(want, answers[i].text()))
			}
			i++
		}
	}
}

func updateCorpus(t *testing.T) {
	cases := readCorpus(t)
	var questions []question
	var dirs []string
	for _, c := range cases {
		dir := c.unpack(t)
		dirs = append(dirs, dir)
		for _, command := range c.commands {
			questions = append(questions, c.question(command, dir))
		}
	}
	answers := ask(t, questions)
	i := 0
	for n, c := range cases {
		var files []txtar.File
		for _, f := range c.archive.Files {
			if !strings.HasPrefix(f.Name, "want: ") && !strings.HasPrefix(f.Name, "fleetd: ") {
				files = append(files, f)
			}
		}
		for _, command := range c.commands {
			want := answers[i].text()
			i++
			files = append(files, txtar.File{Name: "want: " + command, Data: []byte(want)})
			if c.differs {
				if got := c.fleetdAnswer(command, dirs[n]); got != want {
					files = append(files, txtar.File{Name: "fleetd: " + command, Data: []byte(got)})
				}
			}
		}
		c.archive.Files = files
		if err := os.WriteFile(c.path, txtar.Format(c.archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
