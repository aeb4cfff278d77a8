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

func (p *parser) expectOp(s string) error {
	if !p.skipOp(s) {
		return p.unexpected("%q", s)
	}
	return nil
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
