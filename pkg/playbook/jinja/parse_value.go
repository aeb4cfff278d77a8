package jinja

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
	err = p.expectOp(")")
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
		if err := p.expectOp(":"); err != nil {
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
	if err := p.expectOp("("); err != nil {
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
	case t.name("if") || t.name("in") || t.name("not"):
		// Jinja takes the word for an argument of the test, and then fails.
		return nil, errorAt(t.at, "%q cannot follow a test", t.text).token(t.text).hint("put the test into parentheses")
	case t.kind == tName && !t.name("else") && !t.name("or") && !t.name("and"),
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
