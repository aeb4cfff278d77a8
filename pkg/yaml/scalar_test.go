package yaml

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
)

// TestScalarsAsAnsible holds plain scalars against what Ansible's loader makes
// of them (testdata/scalars.py).
func TestScalarsAsAnsible(t *testing.T) {
	b, err := os.ReadFile("testdata/scalars.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct{ Text, Type, Value string }
	if err := json.Unmarshal(b, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) < 60 {
		t.Fatalf("only %d cases", len(cases))
	}
	kinds := map[string]string{"int": "a whole number", "float": "a number", "str": "a string", "bool": "a boolean", "NoneType": "nothing"}
	for _, c := range cases {
		d, err := Parse(&text.Source{Data: "k: " + c.Text + "\n"}, Limits{Depth: 10})
		if err != nil {
			t.Fatal(err)
		}
		v := Scalar(d.Root.Content[1])
		if value.Kind(v) != kinds[c.Type] || value.Str(v) != c.Value {
			t.Errorf("%s: got %s %q, Ansible says %s %q", c.Text, value.Kind(v), value.Str(v), c.Type, c.Value)
		}
	}
}
