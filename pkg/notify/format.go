package notify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/template"
	"time"
)

// mostBody bounds what a template may write.
const mostBody = 64 << 10

// Format makes the body of a request of an event, in JSON.
type Format struct{ t *template.Template }

// shipped are the formats that fleetd brings. Slack's is that of an incoming webhook,
// in whose text &, < and > are its own; Alertmanager's is a POST to /api/v2/alerts. An
// alert that is told once has to say for how long it is one.
var shipped = map[string]string{
	"json":  `{{json .}}`,
	"slack": `{"text": {{printf "*%s*: %s\n%s" .Severity (slack .Title) (slack .See) | json}}}`,
	"alertmanager": `[{"labels": {"alertname": {{json (alert .Kind)}}, "severity": {{json .Severity}}` +
		`{{with .Run}}, "run": {{json .}}{{end}}{{with .Fleet}}, "fleet": {{json .}}{{end}}}, ` +
		`"annotations": {"summary": {{json .Title}}, "see": {{json .See}}{{with .Hosts}}, "hosts": {{json (join .)}}{{end}}}, ` +
		`"startsAt": {{json .At}}, "endsAt": {{json (after .At)}}}]`,
}

// alertLasts is how long Alertmanager takes what happened for what is the case.
const alertLasts = time.Hour

var functions = template.FuncMap{
	"json": func(v any) (string, error) {
		raw, err := json.Marshal(v)
		return string(raw), err
	},
	"join":  func(hosts []string) string { return strings.Join(hosts, ", ") },
	"slack": strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace,
	"alert": Kind.alert,
	"after": func(t time.Time) time.Time { return t.Add(alertLasts) },
}

// Shipped is a format that fleetd brings: json, slack or alertmanager.
func Shipped(name string) (Format, bool) {
	text, ok := shipped[name]
	if !ok {
		return Format{}, false
	}
	return Format{template.Must(template.New(name).Funcs(functions).Parse(text))}, true
}

// ParseFormat reads a template of text/template, and tries it on an event of each kind.
// Its functions are json, join, slack, alert and after.
func ParseFormat(name, text string) (Format, error) {
	t, err := template.New(name).Funcs(functions).Option("missingkey=error").Parse(text)
	if err != nil {
		return Format{}, err
	}
	f := Format{t}
	for _, e := range samples() {
		if _, err := f.Body(e); err != nil {
			return Format{}, fmt.Errorf("of %s: %w", e.Kind, err)
		}
	}
	return f, nil
}

var errTooLong = fmt.Errorf("it writes more than %d bytes", mostBody)

// bounded is a buffer that takes no more than mostBody.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > mostBody {
		return 0, errTooLong
	}
	return b.Buffer.Write(p)
}

// Body is the event in this form.
func (f Format) Body(e Event) ([]byte, error) {
	var b bounded
	if err := f.t.Execute(&b, e); err != nil {
		if errors.Is(err, errTooLong) {
			return nil, errTooLong
		}
		return nil, err
	}
	if !json.Valid(b.Bytes()) {
		return nil, errors.New("what it writes is no JSON")
	}
	return b.Bytes(), nil
}
