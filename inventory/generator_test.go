package inventory_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// files is an inventory as a generator draws it: path → content.
type files map[string]string

var (
	genVar   = rapid.SampledFrom([]string{"v0", "v1", "v2", "v3", "ansible_host", "ansible_port"})
	genGroup = rapid.SampledFrom([]string{"g0", "g1", "g2", "g3", "g4", "g5", "all", "ungrouped", "odd-name"})
	genHost  = rapid.SampledFrom([]string{"h0", "h1", "h2", "h3", "h4.example.org", "10.0.0.1", "localhost", "n[1:3]", "p[a:b]:2222", "q[01:10:4]", "g1"})
	genYAML  = rapid.SampledFrom([]string{"1", "text", "yes", "'q'", "\"d\"", "[1, two]", "{a: 1, b: {c: [x]}}", "1.5", "~", "2020-01-01", "0644", "1:30", "\"{{ t }}\"", "!unsafe raw", "1e3", ""})
	genINI   = rapid.SampledFrom([]string{"1", "text", "yes", "'q'", "\"d\"", "[1,'two']", "{'a':1}", "1.5", "None", "True", "0644", "a=b", "a#b", "1,2", "{{t}}", "0x1f", ""})
)

// genVars draws a dictionary of variables in YAML, indented.
func genVars(t *rapid.T, indent string, name string) string {
	var b strings.Builder
	seen := map[string]bool{}
	for range rapid.IntRange(0, 3).Draw(t, name) {
		k := genVar.Draw(t, "var")
		if !seen[k] {
			seen[k] = true
			fmt.Fprintf(&b, "%s%s: %s\n", indent, k, genYAML.Draw(t, "value"))
		}
	}
	return b.String()
}

// genChild draws a child that mostly closes no circle.
func genChild(t *rapid.T, parent string) string {
	if rapid.IntRange(0, 30).Draw(t, "any child") == 0 {
		return genGroup.Draw(t, "child")
	}
	first := 0
	if strings.HasPrefix(parent, "g") {
		first = int(parent[1]-'0') + 1
	}
	if first > 5 || parent == "odd-name" || parent == "ungrouped" {
		return "leaf"
	}
	return fmt.Sprintf("g%d", rapid.IntRange(first, 5).Draw(t, "child"))
}

func yamlGroup(t *rapid.T, b *strings.Builder, name, indent string, depth int) {
	fmt.Fprintf(b, "%s%s:\n", indent, name)
	if vars := genVars(t, indent+"    ", "vars"); vars != "" {
		fmt.Fprintf(b, "%s  vars:\n%s", indent, vars)
		if rapid.IntRange(0, 5).Draw(t, "priority?") == 0 {
			fmt.Fprintf(b, "%s    ansible_group_priority: %d\n", indent, rapid.IntRange(0, 5).Draw(t, "priority"))
		}
	}
	if n := rapid.IntRange(0, 3).Draw(t, "hosts"); n > 0 {
		fmt.Fprintf(b, "%s  hosts:\n", indent)
		for range n {
			fmt.Fprintf(b, "%s    %s:\n%s", indent, genHost.Draw(t, "host"), genVars(t, indent+"      ", "hostvars"))
		}
	}
	if depth == 0 {
		return
	}
	if n := rapid.IntRange(0, 2).Draw(t, "children"); n > 0 {
		fmt.Fprintf(b, "%s  children:\n", indent)
		for range n {
			yamlGroup(t, b, genChild(t, name), indent+"    ", depth-1)
		}
	}
}

func genYAMLSource(t *rapid.T) string {
	var b strings.Builder
	for range rapid.IntRange(1, 3).Draw(t, "top groups") {
		yamlGroup(t, &b, genGroup.Draw(t, "group"), "", 3)
	}
	return b.String()
}

func genINISource(t *rapid.T) string {
	var b strings.Builder
	for range rapid.IntRange(1, 6).Draw(t, "sections") {
		g := genGroup.Draw(t, "group")
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0, 1:
			fmt.Fprintf(&b, "[%s]\n", g)
			for range rapid.IntRange(0, 3).Draw(t, "hosts") {
				b.WriteString(genHost.Draw(t, "host"))
				for range rapid.IntRange(0, 2).Draw(t, "hostvars") {
					fmt.Fprintf(&b, " %s=%s", genVar.Draw(t, "var"), genINI.Draw(t, "value"))
				}
				b.WriteByte('\n')
			}
		case 2:
			fmt.Fprintf(&b, "[%s:children]\n", g)
			for range rapid.IntRange(0, 2).Draw(t, "children") {
				fmt.Fprintln(&b, genChild(t, g))
			}
		case 3:
			fmt.Fprintf(&b, "[%s:vars]\n", g)
			for range rapid.IntRange(0, 3).Draw(t, "vars") {
				fmt.Fprintf(&b, "%s=%s\n", genVar.Draw(t, "var"), genINI.Draw(t, "value"))
			}
		}
	}
	// Declare what was only named, so that most inventories are valid.
	for _, g := range []string{"g0", "g1", "g2", "g3", "g4", "g5", "odd-name", "leaf"} {
		fmt.Fprintf(&b, "[%s]\n", g)
	}
	return b.String()
}

// genInventory draws a folder with one to three sources and files of
// variables beside them and in the current folder.
var genInventory = rapid.Custom(func(t *rapid.T) files {
	f := files{}
	for i := range rapid.IntRange(1, 3).Draw(t, "sources") {
		dir := fmt.Sprintf("s%d/", i)
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0, 1:
			f[dir+"hosts.yml"] = genYAMLSource(t)
		case 2:
			f[dir+"hosts.ini"] = genINISource(t)
		case 3:
			f[dir+"inv/a.yml"] = genYAMLSource(t)
			f[dir+"inv/b"] = genINISource(t)
			dir += "inv/"
		}
		genVarsFiles(t, f, dir)
	}
	genVarsFiles(t, f, "")
	return f
})

func genVarsFiles(t *rapid.T, f files, dir string) {
	for range rapid.IntRange(0, 3).Draw(t, "group_vars") {
		g := genGroup.Draw(t, "group")
		name := dir + "group_vars/" + g + rapid.SampledFrom([]string{".yml", ".yaml", ".json", "", "/a.yml", "/b/c", "/x.txt"}).Draw(t, "extension")
		f[name] = genVars(t, "", "vars")
	}
	for range rapid.IntRange(0, 2).Draw(t, "host_vars") {
		h := rapid.SampledFrom([]string{"h0", "h1", "n1", "localhost"}).Draw(t, "host")
		f[dir+"host_vars/"+h+rapid.SampledFrom([]string{".yml", "", "/a"}).Draw(t, "extension")] = genVars(t, "", "vars")
	}
}

// write writes the files below dir and returns the sources among them.
func (f files) write(t *testing.T, dir string) []string {
	t.Helper()
	for p, content := range f {
		p = filepath.Join(dir, p)
		// A file may have been drawn where another needs a folder.
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			continue
		}
		if info, err := os.Stat(p); err == nil && info.IsDir() {
			continue
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var sources []string
	for i := range 3 {
		for _, name := range []string{"hosts.yml", "hosts.ini", "inv"} {
			p := filepath.Join(dir, fmt.Sprintf("s%d", i), name)
			if _, err := os.Stat(p); err == nil {
				sources = append(sources, p)
			}
		}
	}
	return sources
}
