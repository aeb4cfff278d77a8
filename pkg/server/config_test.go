package server

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	yaml3 "gopkg.in/yaml.v3"
)

func TestConfig(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"cert.pem", "key.pem"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, vera := NewToken("vera", Viewer)
	digest := hex.EncodeToString(vera.Sum[:])
	schema := newSchema(t)
	// What a schema cannot say.
	beyondSchema := map[string]bool{"a name twice": true, "a file not there": true}
	token := "tokens: [{name: vera, role: viewer, sha256: " + digest + "}]\n"
	for name, c := range map[string]struct {
		text string
		want []string // of the error; none = it is right
	}{
		"empty":        {"", nil},
		"loopback":     {"listen: 127.0.0.1:9000\n", nil},
		"loopback, v6": {"listen: '[::1]:9000'\n", nil},
		"all":          {"listen: 0.0.0.0:8420\nhosts: [bastion.example.org]\nstate: state\ntls: {certificate: cert.pem, key: key.pem}\n" + token, nil},

		"others, without anything": {"listen: 0.0.0.0:8420\n", []string{"serve.yaml:1:9: listening on 0.0.0.0:8420, which others reach, needs tls and tokens", "ssh -L"}},
		"others, without tokens":   {"listen: 0.0.0.0:8420\ntls: {certificate: cert.pem, key: key.pem}\n", []string{"needs tokens"}},
		"others, without tls":      {"listen: 10.0.0.1:8420\n" + token, []string{"needs tls"}},
		"a name that others reach": {"listen: bastion:8420\n" + token, []string{"needs tls"}},
		"every address":            {"listen: ':8420'\n", []string{"listen is address:port"}},
		"no port":                  {"listen: 127.0.0.1\n", []string{"serve.yaml:1:9: listen is address:port"}},
		"several at once": {"listne: x\nhosts: y\ntokens:\n- {name: vera, role: root, sha256: abc}\n- name: ../x\n", []string{
			`serve.yaml:1:1: there is no key "listne" here`, "The keys are hosts, listen, state, tls, tokens.", "serve.yaml:2:8: a list belongs here",
			`serve.yaml:4:22: there is no role "root"`, "serve.yaml:4:36: sha256 is the SHA-256 of a token", `serve.yaml:5:9: "../x" is no name`}},
		"half a token":     {"tokens: [{name: vera}]\n", []string{"serve.yaml:1:10: a token needs name, role and sha256"}},
		"a token twice":    {token + "x: 1\n" + strings.Replace(token, "tokens", "tokens ", 1), []string{"serve.yaml:3:1: tokens is there twice"}},
		"a name twice":     {"tokens:\n- {name: vera, role: viewer, sha256: " + digest + "}\n- {name: vera, role: viewer, sha256: " + digest + "}\n", []string{"serve.yaml:3:3: there are two tokens of the name vera"}},
		"half of tls":      {"tls: {certificate: cert.pem}\n", []string{"serve.yaml:1:6: tls needs certificate and key"}},
		"a file not there": {"tls: {certificate: gone.pem, key: key.pem}\n", []string{"serve.yaml:1:20: open " + dir + "/gone.pem: no such file"}},
		"no mapping":       {"- listen\n", []string{"serve.yaml:1:1: a mapping belongs here"}},
		"no value":         {"state:\n", []string{"serve.yaml:1:7: a text belongs here"}},
		"no YAML":          {"listen: [\n", []string{"serve.yaml:"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, "serve.yaml")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := ReadConfig(file)
			if (err != nil) != (len(c.want) > 0) {
				t.Fatalf("%v", err)
			}
			if refuses := schema.refuses(c.text); refuses != (err != nil) && !beyondSchema[name] {
				t.Errorf("docs/serve.schema.json refuses it: %v", refuses)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q:\n%v", want, err)
				}
			}
		})
	}
}

// schema is what an editor knows of the configuration.
type schema struct {
	t *testing.T
	*jsonschema.Schema
}

func newSchema(t *testing.T) schema {
	t.Helper()
	s, err := jsonschema.NewCompiler().Compile("../../docs/serve.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema{t, s}
}

// refuses reports whether an editor would complain: a text that is no YAML is one,
// too.
func (s schema) refuses(text string) bool {
	var v any
	if yaml3.Unmarshal([]byte(text), &v) != nil {
		return true
	}
	raw, err := json.Marshal(v)
	if err != nil {
		s.t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		s.t.Fatal(err)
	}
	return s.Validate(doc) != nil
}

// FuzzConfig: whatever a file holds, it is read or refused, and what is read
// listens to others with TLS and tokens alone.
func FuzzConfig(f *testing.F) {
	for _, s := range []string{"listen: 0.0.0.0:1", "tokens: [{name: a, role: viewer, sha256: x}]", "a: &a [*a]", "tls: {}", "listen: localhost:1\nhosts: [a]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseConfig("serve.yaml", s)
		if err == nil && !loopback(c.Listen) && (c.Certificate == "" || len(c.Tokens) == 0) {
			t.Errorf("%+v", c)
		}
	})
}
