package jinja

import (
	"fmt"
	"slices"
	"strings"
)

// signature is the parameters of a filter, a test, a method or a function, in
// order. A name that ends in ? may be left out; a last name of * takes any
// number of values. Names that end in = come first and are given by name only.
type signature []string

func sig(names ...string) signature { return names }

// named is how many parameters can only be given by name.
func (s signature) named() int {
	n := 0
	for n < len(s) && strings.HasSuffix(s[n], "=") {
		n++
	}
	return n
}

// bind checks a call while the template is parsed and returns the place of
// each argument.
func (s signature) bind(at int, what string, args []node, kw []keyword) ([]node, error) {
	variadic := len(s) > 0 && s[len(s)-1] == "*"
	fixed := s
	if variadic {
		fixed = s[:len(s)-1]
	}
	named := s.named()
	if most := len(fixed) - named; len(args) > most && !variadic {
		return nil, errorAt(args[most].pos(), "%s takes at most %d arguments: %s", what, most, s)
	}
	bound := make([]node, max(len(fixed), named+len(args)))
	copy(bound[named:], args)
	for _, k := range kw {
		i := slices.IndexFunc(fixed, func(n string) bool { return strings.TrimRight(n, "?=") == k.name })
		if i < 0 {
			return nil, errorAt(k.at, "%s has no parameter %q", what, k.name).token(k.name).hint("it takes %s", s)
		}
		if bound[i] != nil {
			return nil, errorAt(k.at, "%s is given %q twice", what, k.name).token(k.name)
		}
		bound[i] = k.value
	}
	for i, n := range fixed {
		if bound[i] == nil && !strings.HasSuffix(n, "?") && !strings.HasSuffix(n, "=") {
			return nil, errorAt(at, "%s needs %q", what, n).hint("it takes %s", s)
		}
	}
	return bound, nil
}

func (s signature) String() string {
	if len(s) == 0 {
		return "no arguments"
	}
	out := make([]string, len(s))
	for i, n := range s {
		if name := strings.TrimRight(n, "?="); name != n {
			n = "[" + strings.TrimSuffix(n, "?") + "]"
		}
		out[i] = n
	}
	return "(" + strings.Join(out, ", ") + ")"
}

// call is one evaluated call: what stands before it, and its arguments.
type call struct {
	f    *frame
	at   int
	name string
	in   any
	args []any
	has  []bool
}

func (n *callNode) evaluate(f *frame, in any, loose bool) (*call, error) {
	c := &call{f: f, at: n.at, name: n.name, in: in, args: make([]any, len(n.args)), has: make([]bool, len(n.args))}
	if !loose {
		if err := use(in, n.x.pos()); err != nil {
			return nil, err
		}
	}
	for i, a := range n.args {
		if a == nil {
			continue
		}
		v, err := a.eval(f)
		if err == nil && !loose {
			err = use(v, a.pos())
		}
		if err != nil {
			return nil, err
		}
		c.args[i], c.has[i] = v, true
	}
	return c, nil
}

func (c *call) given(i int) bool { return i < len(c.has) && c.has[i] }

func (c *call) fail(format string, a ...any) *Error {
	return errorAt(c.at, "%s: %s", c.name, fmt.Sprintf(format, a...)).token(c.name)
}

// text is the argument as a string, or def if it is not given.
func (c *call) text(i int, def string) (string, error) {
	if !c.given(i) || c.args[i] == nil {
		return def, nil
	}
	s, ok := c.args[i].(string)
	if !ok {
		return "", c.fail("argument %d is of type %s where a string belongs", i+1, TypeName(c.args[i]))
	}
	return s, nil
}

func (c *call) int(i int, def int64) (int64, error) {
	if !c.given(i) || c.args[i] == nil {
		return def, nil
	}
	n, _, isInt, _ := number(c.args[i])
	if !isInt {
		return 0, c.fail("argument %d is of type %s where a whole number belongs", i+1, TypeName(c.args[i]))
	}
	return n, nil
}

func (c *call) bool(i int, def bool) bool {
	if !c.given(i) {
		return def
	}
	return Truth(c.args[i])
}

// list is the value before the filter as Python's list() gives it.
func (c *call) list() ([]any, error) {
	l, ok := elements(c.in)
	if !ok {
		return nil, c.fail("needs a list, not %s", TypeName(c.in))
	}
	return l, nil
}

func (c *call) argList(i int) ([]any, error) {
	l, ok := c.args[i].([]any)
	if !ok {
		return nil, c.fail("argument %d is of type %s where a list belongs", i+1, TypeName(c.args[i]))
	}
	return l, nil
}

// callNode is a filter, a test, a method or a function with its arguments.
type callNode struct {
	base
	name string
	x    node // before the filter or test, or the owner of the method
	args []node
}

type filterNode struct {
	callNode
	f filter
}

type filter struct {
	sig signature
	fn  func(*call) (any, error)
	// loose filters get undefined values as they are.
	loose bool
	// inner filters name another filter or a test in their arguments.
	inner bool
	// text filters make text that Ansible leaves text, even if it reads like a list.
	text bool
}

func newFilter(at int, name string, x node, args []node, kw []keyword) (node, error) {
	short := strings.TrimPrefix(name, "ansible.builtin.")
	f, ok := filters[short]
	if !ok {
		return nil, unknownName(at, name, "filter", unsupportedFilters, filterNames())
	}
	// Ansible keeps the text of a text filter only under its short name.
	f.text = f.text && short == name
	if short == "map" && slices.ContainsFunc(kw, func(k keyword) bool { return k.name == "attribute" }) {
		f = mapAttribute
	}
	bound, err := f.sig.bind(at, "filter "+short, args, kw)
	if err != nil {
		return nil, err
	}
	if f.inner {
		if err := checkInner(short, bound); err != nil {
			return nil, err
		}
	}
	return &filterNode{callNode{base{at}, short, x, bound}, f}, nil
}

// checkInner finds the unknown filter or test that map, select and their kin
// name in a string.
func checkInner(filterName string, args []node) error {
	i := 0
	if strings.HasSuffix(filterName, "attr") {
		i = 1
	}
	if len(args) <= i || args[i] == nil {
		return nil
	}
	c, ok := args[i].(*constNode)
	name, isString := "", false
	if ok {
		name, isString = c.v.(string)
	}
	if !isString {
		return errorAt(args[i].pos(), "%s: fleetd needs the name written out as a string", filterName)
	}
	name = strings.TrimPrefix(name, "ansible.builtin.")
	if filterName == "map" {
		if _, ok := filters[name]; !ok {
			return unknownName(args[i].pos(), name, "filter", unsupportedFilters, filterNames())
		}
		return nil
	}
	if _, ok := tests[name]; !ok {
		return unknownName(args[i].pos(), name, "test", unsupportedTests, testNames())
	}
	return nil
}

func (n *filterNode) eval(f *frame) (any, error) {
	in, err := n.x.eval(f)
	if err != nil {
		return nil, err
	}
	c, err := n.evaluate(f, in, n.f.loose)
	if err != nil {
		return nil, err
	}
	return n.f.fn(c)
}

func isTextFilter(n node) bool {
	f, ok := n.(*filterNode)
	return ok && f.f.text
}

type testNode struct {
	callNode
	t test
}

type test struct {
	sig   signature
	fn    func(*call) (bool, error)
	loose bool
}

func newTest(at int, name string, x node, args []node, kw []keyword) (node, error) {
	short := strings.TrimPrefix(name, "ansible.builtin.")
	t, ok := tests[short]
	if !ok {
		return nil, unknownName(at, name, "test", unsupportedTests, testNames())
	}
	bound, err := t.sig.bind(at, "test "+short, args, kw)
	if err != nil {
		return nil, err
	}
	return &testNode{callNode{base{at}, short, x, bound}, t}, nil
}

func (n *testNode) eval(f *frame) (any, error) {
	in, err := n.x.eval(f)
	if err != nil {
		return nil, err
	}
	c, err := n.evaluate(f, in, n.t.loose)
	if err != nil {
		return nil, err
	}
	return n.t.fn(c)
}

func unknownName(at int, name, what string, unsupported map[string]string, known []string) error {
	short := strings.TrimPrefix(name, "ansible.builtin.")
	if why, ok := unsupported[short]; ok {
		e := errorAt(at, "%s %q is known to Ansible, but not supported by fleetd", what, short).token(name)
		if why != "" {
			e.Hint = why
		}
		return e
	}
	e := errorAt(at, "unknown %s %q", what, name).token(name)
	if near := Nearest(short, known); near != "" {
		return e.hint("did you mean %s?", near)
	}
	return e
}

// Nearest is the known name that name is most likely a misspelling of, or "".
func Nearest(name string, known []string) string {
	best, bestDistance := "", max(1, len(name)/3)+1
	for _, k := range known {
		if d := distance(strings.ToLower(name), strings.ToLower(k)); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance counts the letters to insert, delete, replace or swap.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	if len(x) > 64 || len(y) > 64 {
		return 64
	}
	rows := [3][]int{make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)}
	for j := range rows[1] {
		rows[1][j] = j
	}
	for i := 1; i <= len(x); i++ {
		before, prev, row := rows[0], rows[1], rows[2]
		row[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		rows = [3][]int{prev, row, before}
	}
	return rows[1][len(y)]
}

type globalNode struct {
	callNode
	fn func(*call) (any, error)
}

func (n *globalNode) eval(f *frame) (any, error) {
	c, err := n.evaluate(f, nil, false)
	if err != nil {
		return nil, err
	}
	return n.fn(c)
}

var unsupportedFunctions = map[string]string{
	"lookup":    "lookups read files, the environment or the network of the bastion; put the value into the inventory or give it with -e",
	"query":     "lookups read files, the environment or the network of the bastion; put the value into the inventory or give it with -e",
	"q":         "lookups read files, the environment or the network of the bastion; put the value into the inventory or give it with -e",
	"now":       "the same playbook must give the same plan tomorrow",
	"dict":      "write the dictionary as {'key': value}",
	"namespace": "", "cycler": "", "joiner": "", "lipsum": "", "undef": "",
}

func newGlobalCall(f *nameNode, args []node, kw []keyword) (node, error) {
	if f.name != "range" {
		if why, ok := unsupportedFunctions[f.name]; ok {
			return nil, errorAt(f.at, "function %q is known to Ansible, but not supported by fleetd", f.name).token(f.name).hint("%s", why)
		}
		return nil, errorAt(f.at, "unknown function %q", f.name).token(f.name)
	}
	bound, err := sig("start", "stop?", "step?").bind(f.at, "range", args, kw)
	if err != nil {
		return nil, err
	}
	return &globalNode{callNode{f.base, f.name, f, bound}, rangeFunction}, nil
}

func rangeFunction(c *call) (any, error) {
	var n [3]int64
	for i, def := range []int64{0, 0, 1} {
		v, err := c.int(i, def)
		if err != nil {
			return nil, err
		}
		n[i] = v
	}
	start, stop, step := n[0], n[1], n[2]
	if !c.given(1) {
		start, stop = 0, start
	}
	if step == 0 {
		return nil, c.fail("the step cannot be 0")
	}
	out := []any{}
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		if len(out) == 100_000 {
			return nil, c.fail("more than 100000 numbers")
		}
		out = append(out, i)
	}
	return out, nil
}
