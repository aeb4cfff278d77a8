package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// quoted is a name in backticks.
var quoted = regexp.MustCompile("`([^`]+)`")

// TestFaults: each test that the table of faults names is there.
func TestFaults(t *testing.T) {
	text, err := os.ReadFile("faults.md")
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	for _, pattern := range []string{"../pkg/kernel/*_test.go", "../pkg/kernel/*/*_test.go", "../pkg/node/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			tests.Write(source)
		}
	}
	named := 0
	for line := range strings.Lines(string(text)) {
		columns := strings.Split(line, "|")
		if len(columns) != 5 {
			continue
		}
		for _, name := range quoted.FindAllStringSubmatch(columns[3], -1) {
			named++
			if cases, _ := filepath.Glob("../pkg/kernel/testdata/diff/" + name[1] + ".txtar"); len(cases) > 0 {
				continue
			}
			if !strings.Contains(tests.String(), `"`+name[1]+`"`) && !strings.Contains(tests.String(), " "+name[1]+"(") {
				t.Errorf("the table names the test %s, and there is none: %s", name[1], line)
			}
		}
	}
	if named < 10 {
		t.Errorf("only %d tests are named: the table was not read", named)
	}
}
