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
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
	}{"secret": {"https://hooks.example.org/T0/B0/XYZ\n", 0o600}, "good.tmpl": {`{"text": {{json .Title}}}`, 0o644}, "bad.tmpl": {"{{.Titel}}", 0o644}} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
	}
	_, vera := NewToken("vera", Viewer)
	digest := hex.EncodeToString(vera.Sum[:])
	schema := newSchema(t)
	// What a schema cannot say.
	beyondSchema := map[string]bool{"a name twice": true, "a file not there": true, "a day that is not there": true, "no place": true, "a fleet twice": true, "an inventory not there": true, "a playbook not there": true,
		"a token in the clear": true, "a template that fails": true, "it never opens": true, "it never closes": true, "they never close": true, "too long": true, "all is reserve": true, "a secret for all": true, "no secret": true, "no authority": true, "a webhook twice": true}
	token := "tokens: [{name: vera, roles: [viewer], sha256: " + digest + "}]\n"
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
		"several at once": {"listne: x\nhosts: y\ntokens:\n- {name: vera, roles: [root], sha256: abc}\n- name: ../x\n", []string{
			`serve.yaml:1:1: there is no key "listne" here`, "The keys are fleets, hosts, listen, state, tls, tokens, webhooks.", "serve.yaml:2:8: a list belongs here",
			`serve.yaml:4:24: there is no role "root"`, "serve.yaml:4:39: sha256 is the SHA-256 of a token", `serve.yaml:5:9: "../x" is no name`}},
		"half a token":     {"tokens: [{name: vera}]\n", []string{"serve.yaml:1:10: a token needs name, roles and sha256"}},
		"a token twice":    {token + "x: 1\n" + strings.Replace(token, "tokens", "tokens ", 1), []string{"serve.yaml:3:1: tokens is there twice"}},
		"a name twice":     {"tokens:\n- {name: vera, roles: [viewer], sha256: " + digest + "}\n- {name: vera, roles: [viewer], sha256: " + digest + "}\n", []string{"serve.yaml:3:3: there are two tokens of the name vera"}},
		"half of tls":      {"tls: {certificate: cert.pem}\n", []string{"serve.yaml:1:6: tls needs certificate and key"}},
		"a file not there": {"tls: {certificate: gone.pem, key: key.pem}\n", []string{"serve.yaml:1:20: open " + dir + "/gone.pem: no such file"}},
		"fleets": {"fleets:\n- {name: prod, inventory: cert.pem, playbook: key.pem, policy: key.pem, kubeconfig: key.pem, schedule: 0 6 * * *, time_zone: Europe/Berlin}\n" +
			"- {name: test, inventory: cert.pem, playbook: playbooks/site.yml, schedule: '@daily'}\n", nil},
		"half a fleet":            {"fleets: [{name: prod}]\n", []string{"serve.yaml:1:10: a fleet needs name, inventory and schedule"}},
		"no time":                 {"fleets: [{name: prod, inventory: cert.pem, schedule: at six}]\n", []string{"serve.yaml:1:54: no schedule: ", `"0 6 * * *" is at six each day`}},
		"a time counted from now": {"fleets: [{name: prod, inventory: cert.pem, schedule: '@every 1h'}]\n", []string{`serve.yaml:1:54: no schedule: "@every 1h" is no time of the clock`}},
		"a day that is not there": {"fleets: [{name: prod, inventory: cert.pem, schedule: 0 0 30 2 *}]\n", []string{`"0 0 30 2 *" never comes`}},
		"no place":                {"fleets: [{name: prod, inventory: cert.pem, schedule: 0 6 * * *, time_zone: Europe/Bonn}]\n", []string{`serve.yaml:1:76: there is no time zone "Europe/Bonn"`, "Write it as Europe/Berlin"}},
		"a fleet twice":           {"fleets:\n- {name: a, inventory: cert.pem, schedule: '@daily'}\n- {name: a, inventory: cert.pem, schedule: '@daily'}\n", []string{"serve.yaml:3:3: there are two fleets of the name a"}},
		"an inventory not there":  {"fleets: [{name: a, inventory: gone, schedule: '@daily'}]\n", []string{"serve.yaml:1:31: open " + dir + "/gone: no such file"}},
		"a playbook not there":    {"fleets: [{name: a, inventory: cert.pem, playbook: playbooks/gone.yml, schedule: '@daily'}]\n", []string{"serve.yaml:1:51: open " + dir + "/playbooks/gone.yml: no such file"}},
		"windows":                 {"fleets: [{name: prod, inventory: cert.pem, schedule: '@daily', windows: [{opens: 0 22 * * 1-5, lasts: 6h}, {opens: '@weekly', lasts: 1h30m}], reserve: 20m, time_zone: Europe/Berlin}]\n", nil},
		"half a window":           {"fleets: [{name: prod, inventory: cert.pem, schedule: '@daily', windows: [{opens: 0 22 * * *}]}]\n", []string{"serve.yaml:1:74: a window needs opens and lasts", "lasts: 6h"}},
		"it never opens":          {"fleets: [{name: prod, inventory: cert.pem, schedule: '@daily', windows: [{opens: 0 0 30 2 *, lasts: 6h}]}]\n", []string{"serve.yaml:1:82: the window never opens: "}},
		"it never closes":         {"fleets: [{name: prod, inventory: cert.pem, schedule: '@daily', windows: [{opens: 0 * * * *, lasts: 60m}]}]\n", []string{"serve.yaml:1:74: the windows never close"}},
		"they never close":        {"fleets: [{name: prod, inventory: cert.pem, schedule: '@daily', windows: [{opens: 0 0-11 * * *, lasts: 60m}, {opens: 0 12 * * *, lasts: 14h}]}]\n", []string{"the windows never close"}},
		"too long":                {"fleets: [{name: prod, inventory: cert.pem, schedule: '@daily', windows: [{opens: 0 22 * * 1, lasts: 200h}]}]\n", []string{"serve.yaml:1:74: a window lasts at most 168 hours"}},
		"no duration":             {"fleets: [{name: prod, inventory: cert.pem, schedule: '@daily', windows: [{opens: 0 22 * * *, lasts: long}]}]\n", []string{`serve.yaml:1:101: "long" is no duration`, "Write it as 6h"}},
		"seconds":                 {"fleets: [{name: prod, inventory: cert.pem, schedule: '@daily', windows: [{opens: 0 22 * * *, lasts: 90s}]}]\n", []string{`"90s" is no duration`}},
		"no time at all":          {"fleets: [{name: prod, inventory: cert.pem, schedule: '@daily', windows: [{opens: 0 22 * * *, lasts: 0h}]}]\n", []string{`"0h" is no duration`}},
		"all is reserve":          {"fleets: [{name: prod, inventory: cert.pem, schedule: '@daily', windows: [{opens: 0 22 * * *, lasts: 1h}], reserve: 60m}]\n", []string{"serve.yaml:1:74: nothing would ever begin in a window of 1h0m0s with a reserve of 1h0m0s"}},
		"a reserve of nothing":    {"fleets: [{name: prod, inventory: cert.pem, schedule: '@daily', reserve: 60m}]\n", []string{"serve.yaml:1:73: reserve is about the end of windows"}},
		"no list of windows":      {"fleets: [{name: prod, inventory: cert.pem, schedule: '@daily', windows: {opens: 0 22 * * *, lasts: 1h}}]\n", []string{"a list belongs here"}},
		"webhooks":                {"webhooks:\n- {name: chat, url_file: secret, format: slack, events: [run.halted, node.lost]}\n- {name: own, url: 'https://example.org/x', template: good.tmpl, token_file: secret}\n- {name: am, url: 'http://am:9093/', format: alertmanager}\n", nil},
		"half a webhook":          {"webhooks: [{name: a}]\n", []string{"serve.yaml:1:12: a webhook needs name, and either url or url_file"}},
		"two addresses":           {"webhooks: [{name: a, url: 'https://x/', url_file: secret}]\n", []string{"either url or url_file"}},
		"two forms":               {"webhooks: [{name: a, url: 'https://x/', format: json, template: good.tmpl}]\n", []string{"serve.yaml:1:65: a webhook has format or template"}},
		"no such form":            {"webhooks: [{name: a, url: 'https://x/', format: xml}]\n", []string{`serve.yaml:1:49: there is no format "xml"`}},
		"no such event":           {"webhooks: [{name: a, url: 'https://x/', events: [run.paused]}]\n", []string{`serve.yaml:1:50: there is no event "run.paused"`, "There are run.started, "}},
		"no address":              {"webhooks: [{name: a, url: example.org}]\n", []string{"serve.yaml:1:27: the address cannot be used: it is no https:// or http:// address"}},
		"a password in it":        {"webhooks: [{name: a, url: 'https://me:pw@x/'}]\n", []string{"name or password"}},
		"a token in the clear":    {"webhooks: [{name: a, url: 'http://am/', token_file: secret}]\n", []string{"a token would be read on the way"}},
		"a template that fails":   {"webhooks: [{name: a, url: 'https://x/', template: bad.tmpl}]\n", []string{"serve.yaml:1:51: the template does not work: ", "can't evaluate field Titel"}},
		"a secret for all":        {"webhooks: [{name: a, url_file: good.tmpl}]\n", []string{"others may read ", "chmod 600"}},
		"no secret":               {"webhooks: [{name: a, url_file: cert.pem}]\n", []string{"does not hold one line"}},
		"no authority":            {"webhooks: [{name: a, url: 'https://x/', authority: key.pem}]\n", []string{"holds no certificate in PEM"}},
		"a webhook twice":         {"webhooks: [{name: a, url: 'https://x/'}, {name: a, url: 'https://x/'}]\n", []string{"there are two webhooks of the name a"}},
		"no mapping":              {"- listen\n", []string{"serve.yaml:1:1: a mapping belongs here"}},
		"no value":                {"state:\n", []string{"serve.yaml:1:7: a text belongs here"}},
		"no YAML":                 {"listen: [\n", []string{"serve.yaml:"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, "serve.yaml")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := ReadConfig(file, []string{"playbooks/site.yml"})
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
	for _, s := range []string{"listen: 0.0.0.0:1", "tokens: [{name: a, roles: [viewer], sha256: x}]", "a: &a [*a]", "tls: {}", "listen: localhost:1\nhosts: [a]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseConfig("serve.yaml", s, nil)
		if err == nil && !loopback(c.Listen) && (c.Certificate == "" || len(c.Tokens) == 0) {
			t.Errorf("%+v", c)
		}
	})
}
