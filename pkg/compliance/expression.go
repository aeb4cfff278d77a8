package compliance

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	celast "github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/ext"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/yaml"
)

// Fact is a section that an expression can ask, under its name.
type Fact struct {
	Section rollout.AnySection
	// Keys are the read keys that fill it.
	Keys []string
	// Cluster is set for what is observed on Localhost.
	Cluster bool
}

const expressionRule = "expression"

const (
	// expressionCost bounds what one evaluation may cost, in CEL's units: about one for
	// each field, comparison and element of a list that is looked at.
	expressionCost = 100_000
	// expressionSize bounds an expression, in characters.
	expressionSize = 4_000
)

const (
	hostVariable = "host"
	nowVariable  = "now"
)

// expressions is the rule that asks any fact. The fields of the facts are known to the
// compiler: one that does not exist is a mistake in the file, and not on 300 hosts.
func expressions(facts []Fact) rule {
	names := []string{hostVariable, nowVariable}
	for _, f := range facts {
		names = append(names, f.Section.Name())
	}
	help := "the expression's variables are " + joined(names)
	return rule{
		Name: expressionRule, Help: "an expression in CEL is true: cel.dev",
		Params: rollout.Params{
			"expr": {Type: rollout.String, Required: true, Help: help},
			"text": {Type: rollout.String, Help: "what is wrong where it is false"},
		},
		with: func(args rollout.Args) (compiled, error) {
			expr, _ := args["expr"].(string)
			told, _ := args["text"].(string)
			if told == "" {
				told = "not so: " + strings.TrimSpace(expr)
			}
			return compile(expr, told, facts)
		},
	}
}

func environment(facts []Fact) (*cel.Env, error) {
	opts := []cel.EnvOption{
		cel.Variable(hostVariable, cel.StringType), cel.Variable(nowVariable, cel.TimestampType),
		ext.Strings(ext.StringsVersion(4)), cel.ParserExpressionSizeLimit(expressionSize),
	}
	types := []any{ext.ParseStructTag("json")}
	for _, f := range facts {
		t := f.Section.Type()
		types = append(types, t)
		opts = append(opts, cel.Variable(f.Section.Name(), cel.ObjectType(celName(t))))
	}
	if len(facts) > 0 {
		opts = append(opts, ext.NativeTypes(types...))
	}
	return cel.NewEnv(opts...)
}

// celName is what ext.NativeTypes calls a type: the last part of its package's path,
// and its name.
func celName(t reflect.Type) string { return t.String() }

func compile(expr, told string, facts []Fact) (compiled, error) {
	env, err := environment(facts)
	if err != nil {
		return compiled{}, fmt.Errorf("cannot prepare expressions: %w", err)
	}
	ast, issues := env.Compile(expr)
	if issues != nil && len(issues.Errors()) > 0 {
		e := issues.Errors()[0]
		return compiled{}, &inArgument{name: "expr", message: e.Message, line: e.Location.Line() - 1, column: max(e.Location.Column(), 0),
			hint: "It is an expression in CEL; docs/compliance.md lists the facts that it can ask."}
	}
	if !ast.OutputType().IsExactType(cel.BoolType) {
		return compiled{}, &inArgument{name: "expr", message: fmt.Sprintf("the expression is of type %s", ast.OutputType()), hint: "Write one that is true or false: compare it with something."}
	}
	program, err := env.Program(ast, cel.CostLimit(expressionCost), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return compiled{}, &inArgument{name: "expr", message: err.Error(), hint: "It is an expression in CEL."}
	}
	used := identifiers(ast)
	var of []Fact
	var c compiled
	for _, f := range facts {
		if !used[f.Section.Name()] {
			continue
		}
		of = append(of, f)
		for _, key := range f.Keys {
			read := rollout.Read{Section: f.Section.Name(), Key: key}
			if f.Cluster {
				c.cluster = append(c.cluster, read)
			} else {
				c.reads = append(c.reads, read)
			}
		}
	}
	c.judge = func(l rollout.Look) ([]rollout.Finding, error) {
		vars := map[string]any{hostVariable: l.Host, nowVariable: l.Now}
		for _, f := range of {
			from := l.State
			if f.Cluster {
				from = l.Cluster
			}
			v, err := f.Section.Any(from)
			if err != nil {
				return nil, err
			}
			vars[f.Section.Name()] = v
		}
		out, _, err := program.Eval(vars)
		if err != nil {
			return nil, &rollout.Problem{
				Message: fmt.Sprintf("the expression %s cannot be evaluated: %v", text.Clip(expr), err),
				Hint:    "has(…) asks whether a fact is there",
			}
		}
		if out.Value() == true {
			return []rollout.Finding{rollout.Holds("%s", strings.TrimSpace(expr))}, nil
		}
		return []rollout.Finding{rollout.Drifts(told)}, nil
	}
	return c, nil
}

// identifiers are the variables that an expression names.
func identifiers(ast *cel.Ast) map[string]bool {
	out := map[string]bool{}
	celast.PostOrderVisit(ast.NativeRep().Expr(), celast.NewExprVisitor(func(e celast.Expr) {
		if e.Kind() == celast.IdentKind {
			out[e.AsIdent()] = true
		}
	}))
	return out
}

// place is where the mistake stands in the file. In a text that YAML folds, lines are
// not those of the file: its beginning has to do.
func (e *inArgument) place(src *text.Source, n *yaml.Node) (line, column int) {
	switch {
	case n.Style&yaml.LiteralStyle != 0: // it begins on the line behind the sign, as deep as that is
		first := src.Line(n.Line + 1)
		indent := len(first) - len(strings.TrimLeft(first, " "))
		return n.Line + 1 + e.line, indent + 1 + e.column
	case n.Style&yaml.FoldedStyle != 0 || e.line > 0:
		return n.Line, n.Column
	}
	column = n.Column + e.column
	if at := []rune(src.Line(n.Line)); n.Column <= len(at) && (at[n.Column-1] == '"' || at[n.Column-1] == '\'') {
		column++
	}
	return n.Line, column
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
