package compliance

import (
	"github.com/fleetd/fleetd/pkg/rollout"
)

// JSONSchema is the form of a file of policies as JSON Schema, draft 2020-12, for
// editors and for CI. What it refuses Load refuses; Load also knows patterns of hosts,
// versions and expressions.
func JSONSchema(o Options) map[string]any {
	rules := rulesOf(o)
	var names []any
	var arguments []any
	for _, name := range sorted(rules) {
		r := rules[name]
		names = append(names, name)
		then := map[string]any{"properties": map[string]any{"with": argsSchema(r.Params)}}
		if required := requiredOf(r.Params); len(required) > 0 {
			then["required"] = []any{"with"}
		}
		if len(r.Params) == 0 {
			then["properties"] = map[string]any{"with": false}
		}
		if r.Cluster {
			then["properties"].(map[string]any)["hosts"] = false
		}
		arguments = append(arguments, map[string]any{
			"if":   map[string]any{"properties": map[string]any{"rule": map[string]any{"const": name}}, "required": []any{"rule"}},
			"then": then,
		})
	}
	word := map[string]any{"type": "string", "pattern": `\S`}
	policy := object(fieldsOfPolicy, map[string]any{
		"name": word, "rule": map[string]any{"enum": names}, "with": map[string]any{"type": "object"}, "hosts": word,
		"severity": map[string]any{"enum": []any{string(Low), string(Medium), string(High)}}, "fix": word,
	})
	policy["allOf"] = arguments
	out := object(fieldsOfFile, map[string]any{
		"playbook": map[string]any{"type": "boolean"},
		"policies": map[string]any{"type": "array", "items": policy},
		"waivers": map[string]any{"type": "array", "items": object(fieldsOfWaiver, map[string]any{
			"policy": word, "rule": word, "hosts": word, "owner": word, "reason": word,
			"expires": map[string]any{"type": "string", "pattern": `^\d{4}-\d{2}-\d{2}$`},
		})},
	})
	out["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	out["title"] = "Policies of fleetd compliance"
	return out
}

// object is a mapping with these keys and no others.
func object(fields map[string]field, types map[string]any) map[string]any {
	properties, required := map[string]any{}, []any{}
	for _, name := range sorted(fields) {
		p := map[string]any{"description": fields[name].help}
		for k, v := range types[name].(map[string]any) {
			p[k] = v
		}
		properties[name] = p
		if fields[name].required {
			required = append(required, name)
		}
	}
	out := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

func argsSchema(params rollout.Params) map[string]any {
	fields, types := map[string]field{}, map[string]any{}
	for name, p := range params {
		fields[name] = field{p.Help, p.Required}
		text := map[string]any{"type": "string", "pattern": `\S`}
		if len(p.Choices) > 0 {
			var choices []any
			for _, c := range p.Choices {
				choices = append(choices, c)
			}
			text = map[string]any{"enum": choices}
		}
		switch p.Type {
		case rollout.Bool:
			types[name] = map[string]any{"type": "boolean"}
		case rollout.Int:
			types[name] = map[string]any{"type": "integer"}
		case rollout.Duration:
			types[name] = map[string]any{"type": "string", "pattern": `^(\d+d|([0-9.]+(ns|us|ms|s|m|h))+)$`}
		case rollout.Strings:
			types[name] = map[string]any{"oneOf": []any{text, map[string]any{"type": "array", "items": text}}}
		case rollout.Any:
			types[name] = map[string]any{}
		default:
			types[name] = text
		}
	}
	return object(fields, types)
}

func requiredOf(params rollout.Params) (out []string) {
	for _, name := range sorted(params) {
		if params[name].Required {
			out = append(out, name)
		}
	}
	return out
}
