package jinja

// maxDepth bounds the nesting of an expression, so that a hostile template
// ends in an error and not in a stack overflow.
const maxDepth = 200

type parser struct {
	toks  []token
	i     int
	depth int
}

func (p *parser) cur() token { return p.toks[p.i] }

func (p *parser) peek() token {
	if p.i+1 < len(p.toks) {
		return p.toks[p.i+1]
	}
	return p.toks[p.i]
}

func (p *parser) next() token {
	t := p.toks[p.i]
	if p.i < len(p.toks)-1 {
		p.i++
	}
	return t
}

func (t token) op(s string) bool   { return t.kind == tOp && t.text == s }
func (t token) name(s string) bool { return t.kind == tName && t.text == s }

func (p *parser) skipOp(s string) bool {
	if p.cur().op(s) {
		p.next()
		return true
	}
	return false
}

func (p *parser) skipName(s string) bool {
	if p.cur().name(s) {
		p.next()
		return true
	}
	return false
}

func (p *parser) expectOp(s string) (token, error) {
	if t := p.cur(); !t.op(s) {
		return t, p.unexpected("%q", s)
	}
	return p.next(), nil
}

func (p *parser) unexpected(wantFormat string, a ...any) *Error {
	t := p.cur()
	e := errorAt(t.at, "unexpected %s where "+wantFormat+" belongs", append([]any{t.describe()}, a...)...)
	if t.kind == tName || t.kind == tOp {
		e.Token = t.text
	}
	if t.op("=") {
		e.Hint = "a comparison is written =="
	}
	return e
}

// enter counts nesting; call leave when done.
func (p *parser) enter() error {
	if p.depth++; p.depth > maxDepth {
		return errorAt(p.cur().at, "this expression is nested more than %d deep", maxDepth)
	}
	return nil
}

func (p *parser) leave() { p.depth-- }

// expr parses a whole expression with its inline ifs.
func (p *parser) expr() (node, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	left, err := p.or()
	if err != nil {
		return nil, err
	}
	for p.cur().name("if") {
		at := p.next().at
		cond, err := p.or()
		if err != nil {
			return nil, err
		}
		var other node
		if p.skipName("else") {
			if other, err = p.expr(); err != nil {
				return nil, err
			}
		}
		left = &condNode{base{at}, cond, left, other}
	}
	return left, nil
}

func (p *parser) or() (node, error) {
	left, err := p.and()
	for err == nil && p.cur().name("or") {
		at := p.next().at
		var right node
		right, err = p.and()
		left = &boolNode{base{at}, left, right, true}
	}
	return left, err
}

func (p *parser) and() (node, error) {
	left, err := p.not()
	for err == nil && p.cur().name("and") {
		at := p.next().at
		var right node
		right, err = p.not()
		left = &boolNode{base{at}, left, right, false}
	}
	return left, err
}

func (p *parser) not() (node, error) {
	if !p.cur().name("not") {
		return p.compare()
	}
	at := p.next().at
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	x, err := p.not()
	return &notNode{base{at}, x}, err
}

func (p *parser) compare() (node, error) {
	first, err := p.math1()
	if err != nil {
		return nil, err
	}
	var ops []operand
	for {
		t := p.cur()
		op := ""
		switch {
		case t.kind == tOp && (t.text == "==" || t.text == "!=" || t.text == "<" || t.text == "<=" || t.text == ">" || t.text == ">="):
			op = t.text
		case t.name("in"):
			op = "in"
		case t.name("not") && p.peek().name("in"):
			p.next()
			op = "not in"
		}
		if op == "" {
			if ops == nil {
				return first, nil
			}
			return &compareNode{base{ops[0].at}, first, ops}, nil
		}
		p.next()
		x, err := p.math1()
		if err != nil {
			return nil, err
		}
		ops = append(ops, operand{op, x, t.at})
	}
}

// binary parses a left-associative level of operators.
func (p *parser) binary(next func() (node, error), ops ...string) (node, error) {
	left, err := next()
	for err == nil {
		t := p.cur()
		found := false
		for _, op := range ops {
			found = found || t.op(op)
		}
		if !found {
			return left, nil
		}
		p.next()
		var right node
		right, err = next()
		left = &binaryNode{base{t.at}, t.text, left, right}
	}
	return nil, err
}

func (p *parser) math1() (node, error)  { return p.binary(p.concat, "+", "-") }
func (p *parser) concat() (node, error) { return p.binary(p.math2, "~") }
func (p *parser) math2() (node, error)  { return p.binary(p.pow, "*", "/", "//", "%") }
func (p *parser) pow() (node, error) {
	return p.binary(func() (node, error) { return p.unary(true) }, "**")
}

func (p *parser) unary(filters bool) (node, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	var x node
	var err error
	if t := p.cur(); t.op("-") || t.op("+") {
		p.next()
		if x, err = p.unary(false); err == nil {
			x = &signNode{base{t.at}, t.text == "-", x}
		}
	} else {
		x, err = p.primary()
	}
	if err == nil {
		x, err = p.postfix(x)
	}
	if err == nil && filters {
		x, err = p.filters(x)
	}
	return x, err
}

func (p *parser) primary() (node, error) {
	t := p.cur()
	switch t.kind {
	case tName:
		switch t.text {
		case "true", "True":
			p.next()
			return &constNode{base{t.at}, true}, nil
		case "false", "False":
			p.next()
			return &constNode{base{t.at}, false}, nil
		case "none", "None":
			p.next()
			return &constNode{base{t.at}, nil}, nil
		case "and", "or", "not", "if", "else", "in", "is":
			// Jinja takes these as variable names here, and then complains of
			// something else.
			return nil, p.unexpected("a value")
		}
		p.next()
		return &nameNode{base{t.at}, t.text}, nil
	case tString:
		s := p.next().text
		for p.cur().kind == tString {
			s += p.next().text
		}
		return &constNode{base{t.at}, s}, nil
	case tInt:
		p.next()
		return &constNode{base{t.at}, t.i}, nil
	case tFloat:
		p.next()
		return &constNode{base{t.at}, t.f}, nil
	}
	switch {
	case t.op("("):
		p.next()
		return p.parenthesis(t.at)
	case t.op("["):
		p.next()
		items, err := p.list("]")
		return &listNode{base{t.at}, items, false}, err
	case t.op("{"):
		p.next()
		return p.dict(t.at)
	}
	return nil, p.unexpected("a value")
}

func (p *parser) parenthesis(at int) (node, error) {
	if p.skipOp(")") {
		return &listNode{base: base{at}, tuple: true}, nil
	}
	x, err := p.expr()
	if err != nil {
		return nil, err
	}
	if p.cur().op(",") {
		p.next()
		rest, err := p.list(")")
		return &listNode{base{at}, append([]node{x}, rest...), true}, err
	}
	_, err = p.expectOp(")")
	return x, err
}

func (p *parser) list(close string) ([]node, error) {
	var items []node
	for !p.skipOp(close) {
		if len(items) > 0 && p.i > 0 && !p.toks[p.i-1].op(",") {
			return nil, p.unexpected("%q", close)
		}
		x, err := p.expr()
		if err != nil {
			return nil, err
		}
		items = append(items, x)
		if !p.skipOp(",") && !p.cur().op(close) {
			return nil, p.unexpected("%q or \",\"", close)
		}
	}
	return items, nil
}

func (p *parser) dict(at int) (node, error) {
	d := &dictNode{base: base{at}}
	for !p.skipOp("}") {
		k, err := p.expr()
		if err != nil {
			return nil, err
		}
		if _, err := p.expectOp(":"); err != nil {
			return nil, err
		}
		v, err := p.expr()
		if err != nil {
			return nil, err
		}
		d.keys, d.values = append(d.keys, k), append(d.values, v)
		if !p.skipOp(",") && !p.cur().op("}") {
			return nil, p.unexpected("\"}\" or \",\"")
		}
	}
	return d, nil
}

func (p *parser) postfix(x node) (node, error) {
	for n := 0; ; n++ {
		if n > maxDepth {
			return nil, errorAt(p.cur().at, "this expression is nested more than %d deep", maxDepth)
		}
		t := p.cur()
		var err error
		switch {
		case t.op("."):
			p.next()
			a := p.cur()
			switch a.kind {
			case tName:
				p.next()
				x = &attrNode{base{a.at}, x, a.text}
			case tInt:
				p.next()
				x = &itemNode{base{a.at}, x, &constNode{base{a.at}, a.i}}
			default:
				return nil, p.unexpected("a name")
			}
		case t.op("["):
			p.next()
			x, err = p.subscript(x, t.at)
		case t.op("("):
			x, err = p.call(x)
		default:
			return x, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (p *parser) subscript(x node, at int) (node, error) {
	var parts [3]node
	colons := 0
	for !p.cur().op("]") {
		if p.skipOp(":") {
			if colons++; colons > 2 {
				return nil, p.unexpected("\"]\"")
			}
			continue
		}
		if parts[colons] != nil {
			return nil, p.unexpected("\"]\"")
		}
		e, err := p.expr()
		if err != nil {
			return nil, err
		}
		parts[colons] = e
	}
	p.next()
	if colons > 0 {
		return &sliceNode{base{at}, x, parts}, nil
	}
	if parts[0] == nil {
		return nil, errorAt(at, "there is nothing between [ and ]").token("[")
	}
	return &itemNode{base{at}, x, parts[0]}, nil
}

// args parses the arguments of a call, a filter or a test.
func (p *parser) args() (args []node, kw []keyword, err error) {
	if _, err := p.expectOp("("); err != nil {
		return nil, nil, err
	}
	for !p.skipOp(")") {
		t := p.cur()
		switch {
		case t.op("*") || t.op("**"):
			return nil, nil, errorAt(t.at, "%s arguments are not supported by fleetd", t.text).token(t.text).hint("write the arguments out")
		case t.kind == tName && p.peek().op("="):
			p.next()
			p.next()
			v, err := p.expr()
			if err != nil {
				return nil, nil, err
			}
			kw = append(kw, keyword{t.text, v, t.at})
		default:
			if kw != nil {
				return nil, nil, errorAt(t.at, "an argument without a name cannot follow one with a name")
			}
			v, err := p.expr()
			if err != nil {
				return nil, nil, err
			}
			args = append(args, v)
		}
		if !p.skipOp(",") && !p.cur().op(")") {
			return nil, nil, p.unexpected("\")\" or \",\"")
		}
	}
	return args, kw, nil
}

func (p *parser) call(x node) (node, error) {
	at := p.cur().at
	args, kw, err := p.args()
	if err != nil {
		return nil, err
	}
	switch f := x.(type) {
	case *nameNode:
		return newGlobalCall(f, args, kw)
	case *attrNode:
		return newMethodCall(f, args, kw)
	}
	return nil, errorAt(at, "only methods and functions can be called").token("(")
}

// filters parses | filter, is test and calls after them.
func (p *parser) filters(x node) (node, error) {
	for n := 0; ; n++ {
		if n > maxDepth {
			return nil, errorAt(p.cur().at, "this expression is nested more than %d deep", maxDepth)
		}
		t := p.cur()
		var err error
		switch {
		case t.op("|"):
			p.next()
			x, err = p.filter(x)
		case t.name("is"):
			p.next()
			x, err = p.test(x)
		case t.op("("):
			x, err = p.call(x)
		default:
			return x, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// dotted parses a name that may have parts, such as ansible.builtin.bool.
func (p *parser) dotted(what string) (string, int, error) {
	t := p.cur()
	if t.kind != tName {
		return "", 0, p.unexpected("the name of a %s", what)
	}
	name := p.next().text
	for p.cur().op(".") && p.peek().kind == tName {
		p.next()
		name += "." + p.next().text
	}
	return name, t.at, nil
}

func (p *parser) filter(x node) (node, error) {
	name, at, err := p.dotted("filter")
	if err != nil {
		return nil, err
	}
	var args []node
	var kw []keyword
	if p.cur().op("(") {
		if args, kw, err = p.args(); err != nil {
			return nil, err
		}
	}
	return newFilter(at, name, x, args, kw)
}

func (p *parser) test(x node) (node, error) {
	negate := p.skipName("not")
	name, at, err := p.dotted("test")
	if err != nil {
		return nil, err
	}
	var args []node
	var kw []keyword
	t := p.cur()
	switch {
	case t.op("("):
		args, kw, err = p.args()
	case t.name("is"):
		return nil, errorAt(t.at, "tests cannot be chained with is").token("is").hint("join them with and")
	case t.kind == tName && !t.name("else") && !t.name("or") && !t.name("and") && !t.name("if") && !t.name("in") && !t.name("not"),
		t.kind == tString, t.kind == tInt, t.kind == tFloat, t.op("["), t.op("{"):
		var a node
		if a, err = p.primary(); err == nil {
			a, err = p.postfix(a)
		}
		args = []node{a}
	}
	if err != nil {
		return nil, err
	}
	n, err := newTest(at, name, x, args, kw)
	if err != nil || !negate {
		return n, err
	}
	return &notNode{base{at}, n}, nil
}
