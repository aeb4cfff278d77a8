package jinja

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/fleetd/fleetd/pkg/value"
)

var tests map[string]test

func init() {
	tests = map[string]test{
		"defined":   {sig: sig(), loose: true, fn: func(c *call) (bool, error) { return !isUndefined(c.in), maybe(c) }},
		"undefined": {sig: sig(), loose: true, fn: func(c *call) (bool, error) { return isUndefined(c.in), maybe(c) }},

		"none":     {sig: sig(), fn: typed("NoneType"), loose: true},
		"boolean":  {sig: sig(), fn: typed("bool"), loose: true},
		"integer":  {sig: sig(), fn: typed("int"), loose: true},
		"float":    {sig: sig(), fn: typed("float"), loose: true},
		"string":   {sig: sig(), fn: typed("str"), loose: true},
		"mapping":  {sig: sig(), fn: typed("dict"), loose: true},
		"number":   {sig: sig(), fn: typed("int", "float", "bool"), loose: true},
		"sequence": {sig: sig(), fn: typed("str", "list", "dict")},
		"iterable": {sig: sig(), fn: typed("str", "list", "dict")},
		"true":     {sig: sig(), fn: func(c *call) (bool, error) { return c.in == true, opaque(c) }, loose: true},
		"false":    {sig: sig(), fn: func(c *call) (bool, error) { return c.in == false, opaque(c) }, loose: true},
		"sameas":   {sig: sig("other"), fn: testSameas},

		"eq": {sig: sig("other"), fn: relational("==")},
		"ne": {sig: sig("other"), fn: relational("!=")},
		"lt": {sig: sig("other"), fn: relational("<")},
		"le": {sig: sig("other"), fn: relational("<=")},
		"gt": {sig: sig("other"), fn: relational(">")},
		"ge": {sig: sig("other"), fn: relational(">=")},
		"in": {sig: sig("seq"), fn: relational("in")},

		"even":        {sig: sig(), fn: func(c *call) (bool, error) { return modulo(c, 2, 0) }},
		"odd":         {sig: sig(), fn: func(c *call) (bool, error) { return modulo(c, 2, 1) }},
		"divisibleby": {sig: sig("num"), fn: testDivisible},
		"lower": {sig: sig(), fn: func(c *call) (bool, error) {
			s := Text(c.in)
			return s == strings.ToLower(s) && s != strings.ToUpper(s), nil
		}},
		"upper": {sig: sig(), fn: func(c *call) (bool, error) {
			s := Text(c.in)
			return s == strings.ToUpper(s) && s != strings.ToLower(s), nil
		}},

		"match":  {sig: sig("pattern?", "ignorecase?", "multiline?"), fn: func(c *call) (bool, error) { return testRegexp(c, true) }},
		"search": {sig: sig("pattern?", "ignorecase?", "multiline?"), fn: func(c *call) (bool, error) { return testRegexp(c, false) }},
		"regex":  {sig: sig("pattern?", "ignorecase?", "multiline?"), fn: func(c *call) (bool, error) { return testRegexp(c, false) }},

		"version": {sig: sig("version", "operator?"), fn: testVersion},
		"truthy":  {sig: sig("convert_bool?"), fn: func(c *call) (bool, error) { return truthy(c), nil }},
		"falsy":   {sig: sig("convert_bool?"), fn: func(c *call) (bool, error) { return !truthy(c), nil }},

		"any":         {sig: sig(), fn: func(c *call) (bool, error) { return quantified(c, true) }},
		"all":         {sig: sig(), fn: func(c *call) (bool, error) { return quantified(c, false) }},
		"subset":      {sig: sig("other"), fn: func(c *call) (bool, error) { return subset(c, c.in, c.args[0]) }},
		"superset":    {sig: sig("other"), fn: func(c *call) (bool, error) { return subset(c, c.args[0], c.in) }},
		"changed":     {sig: sig(), fn: testChanged},
		"failed":      {sig: sig(), fn: result("failed", true)},
		"succeeded":   {sig: sig(), fn: result("failed", false)},
		"skipped":     {sig: sig(), fn: result("skipped", true)},
		"unreachable": {sig: sig(), fn: result("unreachable", true)},
		"reachable":   {sig: sig(), fn: result("unreachable", false)},

		"contains": {sig: sig("item"), fn: func(c *call) (bool, error) { return contains(c.in, c.args[0], c.at) }},
	}
	for alias, name := range map[string]string{
		"equalto": "eq", "==": "eq", "!=": "ne", "lessthan": "lt", "<": "lt", "<=": "le", "greaterthan": "gt", ">": "gt", ">=": "ge",
		"version_compare": "version", "issubset": "subset", "issuperset": "superset",
		"change": "changed", "failure": "failed", "success": "succeeded", "successful": "succeeded", "skip": "skipped",
	} {
		tests[alias] = tests[name]
	}
}

// result looks at what a task's result says of itself
// (ansible.plugins.test.core).
func result(field string, want bool) func(*call) (bool, error) {
	return func(c *call) (bool, error) {
		m, ok := c.in.(*value.Map)
		if !ok {
			return false, c.fail("needs the result of a task, not %s", TypeName(c.in))
		}
		v, _ := m.Get(field)
		return Truth(v) == want, nil
	}
}

// testChanged looks at the items of a loop where the whole says nothing.
func testChanged(c *call) (bool, error) {
	if m, ok := c.in.(*value.Map); ok {
		if _, says := m.Get("changed"); !says {
			items, _ := m.Get("results")
			l, _ := items.([]any)
			for _, x := range l {
				item, _ := x.(*value.Map)
				if v, _ := item.Get("changed"); Truth(v) {
					return true, nil
				}
			}
		}
	}
	return result("changed", true)(c)
}

func testNames() []string { return slices.Sorted(maps.Keys(tests)) }

const aboutAsync = "it is about async, which fleetd does not have"

// unsupportedTests are those of Jinja and Ansible that fleetd does not have,
// with the reason where there is one.
var unsupportedTests = map[string]string{
	"finished": aboutAsync, "started": aboutAsync,
	"exists": noFiles, "file": noFiles, "is_file": noFiles, "directory": noFiles, "is_dir": noFiles, "link": noFiles,
	"is_link": noFiles, "link_exists": noFiles, "mount": noFiles, "is_mount": noFiles, "same_file": noFiles, "is_same_file": noFiles,
	"abs": "", "is_abs": "", "nan": "", "isnan": "", "url": "", "urn": "", "uri": "", "vault_encrypted": "",
	"callable": "", "escaped": "", "filter": "", "test": "",
}

const noFiles = "fleetd's templates do not read files"

func isUndefined(v any) bool {
	_, ok := v.(Undefined)
	return ok
}

// maybe refuses what nobody knows to be defined.
func maybe(c *call) error {
	if o, ok := c.in.(Opaque); ok && o.Maybe {
		return use(c.in, c.at)
	}
	return nil
}

// typed tests look at the type only, which what is undefined has none of: as in
// Jinja, "missing is string" is false.
func typed(names ...string) func(*call) (bool, error) {
	return func(c *call) (bool, error) { return slices.Contains(names, TypeName(c.in)), opaque(c) }
}

// opaque refuses a secret to a test that takes undefined values.
func opaque(c *call) error {
	if _, ok := c.in.(Opaque); ok {
		return use(c.in, c.at)
	}
	return nil
}

func relational(op string) func(*call) (bool, error) {
	return func(c *call) (bool, error) { return relation(op, c.in, c.args[0], c.at) }
}

func testSameas(c *call) (bool, error) {
	switch c.args[0].(type) {
	case nil, bool:
		return c.in == c.args[0], nil
	}
	return false, c.fail("is only meant for true, false and none").hint("compare with ==")
}

func modulo(c *call, by, want int64) (bool, error) {
	v, err := arithmetic("%", c.in, by, c.at)
	if err != nil {
		return false, err
	}
	return Equal(v, want), nil
}

func testDivisible(c *call) (bool, error) {
	v, err := arithmetic("%", c.in, c.args[0], c.at)
	if err != nil {
		return false, err
	}
	return Equal(v, int64(0)), nil
}

func testRegexp(c *call, fromStart bool) (bool, error) {
	pattern, err := c.text(0, "")
	if err != nil {
		return false, err
	}
	if fromStart {
		pattern = `\A(?:` + pattern + `)`
	}
	re, err := c.compileRegexp(pattern, c.bool(1, false), c.bool(2, false))
	if err != nil {
		return false, err
	}
	return re.MatchString(Text(c.in)), nil
}

func truthy(c *call) bool {
	if s, ok := c.in.(string); ok && c.bool(0, false) {
		switch strings.ToLower(strings.TrimSpace(s)) {
		case "y", "yes", "on", "1", "true", "t", "1.0":
			return true
		case "n", "no", "off", "0", "false", "f", "0.0":
			return false
		}
	}
	return Truth(c.in)
}

func quantified(c *call, any bool) (bool, error) {
	l, err := c.list()
	if err != nil {
		return false, err
	}
	for _, x := range l {
		if Truth(x) == any {
			return any, nil
		}
	}
	return !any, nil
}

func subset(c *call, small, large any) (bool, error) {
	a, okA := elements(small)
	b, okB := elements(large)
	if !okA || !okB {
		return false, c.fail("needs two lists")
	}
	in := membership(b)
	return !slices.ContainsFunc(a, func(x any) bool { return !in(x) }), nil
}

var versionOperators = map[string]string{
	"==": "==", "=": "==", "eq": "==", "<": "<", "lt": "<", "<=": "<=", "le": "<=", ">": ">", "gt": ">",
	">=": ">=", "ge": ">=", "!=": "!=", "<>": "!=", "ne": "!=",
}

// testVersion compares as Ansible's loose version type: runs of digits as
// numbers, runs of lower-case letters and everything else as texts.
func testVersion(c *call) (bool, error) {
	if !Truth(c.in) || !Truth(c.args[0]) {
		return false, c.fail("an empty version cannot be compared")
	}
	name, err := c.text(1, "eq")
	if err != nil {
		return false, err
	}
	op, ok := versionOperators[name]
	if !ok {
		return false, c.fail("unknown operator %q", name)
	}
	return relation(op, looseVersion(Text(c.in)), looseVersion(Text(c.args[0])), c.at)
}

var versionPart = regexp.MustCompile(`\d+|[a-z]+|\.|[^\d.a-z]+`)

func looseVersion(s string) any {
	out := []any{}
	for _, p := range versionPart.FindAllString(s, -1) {
		if p == "." {
			continue
		}
		if n, err := strconv.ParseInt(p, 10, 64); err == nil {
			out = append(out, n)
		} else {
			out = append(out, p)
		}
	}
	return out
}
