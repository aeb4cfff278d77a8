package jinja

import (
	"strings"

	"github.com/fleetd/fleetd/pkg/value"
)

func renderAll(parts []part, f *frame, out *strings.Builder) error {
	for _, p := range parts {
		if err := p.render(f, out); err != nil {
			return err
		}
		if out.Len() > maxText {
			return errorAt(0, "this makes a text of more than %d MB", maxText>>20)
		}
	}
	return nil
}

func (n *ifPart) render(f *frame, out *strings.Builder) error {
	for i, c := range n.conds {
		ok, err := f.truth(c)
		if err != nil {
			return err
		}
		if ok {
			return renderAll(n.bodies[i], f, out)
		}
	}
	return renderAll(n.other, f, out)
}

func (n *setPart) render(f *frame, _ *strings.Builder) error {
	v, err := n.x.eval(f)
	if err != nil {
		return err
	}
	if f.locals == nil {
		f.locals = map[string]any{}
	}
	f.locals[n.name] = v
	return nil
}

func (n *forPart) render(f *frame, out *strings.Builder) error {
	v, err := f.value(n.seq)
	if err != nil {
		return err
	}
	all, ok := elements(v)
	if !ok {
		return errorAt(n.seq.pos(), "a loop cannot go through %s", TypeName(v))
	}
	frames := make([]*frame, 0, len(all))
	for _, x := range all {
		inner := f.inner()
		if len(n.names) == 1 {
			inner.locals[n.names[0]] = x
		} else {
			fields, ok := elements(x)
			if !ok || len(fields) != len(n.names) {
				return errorAt(n.at, "%s cannot be unpacked into %d names", TypeName(x), len(n.names))
			}
			for i, name := range n.names {
				inner.locals[name] = fields[i]
			}
		}
		if n.filter != nil {
			keep, err := inner.truth(n.filter)
			if err != nil {
				return err
			}
			if !keep {
				continue
			}
		}
		frames = append(frames, inner)
	}
	for i, inner := range frames {
		if *f.rounds--; *f.rounds < 0 {
			return errorAt(n.at, "the loops of this template make more than %d rounds", maxRounds)
		}
		size := int64(len(frames))
		k := int64(i)
		loop := value.NewMap(7)
		for _, e := range []value.Entry{
			{Key: "index", Value: k + 1}, {Key: "index0", Value: k}, {Key: "revindex", Value: size - k}, {Key: "revindex0", Value: size - k - 1},
			{Key: "first", Value: i == 0}, {Key: "last", Value: k == size-1}, {Key: "length", Value: size},
		} {
			loop.Set(e.Key, e.Value)
		}
		inner.locals["loop"] = loop
		if err := renderAll(n.body, inner, out); err != nil {
			return err
		}
	}
	if len(frames) == 0 {
		return renderAll(n.other, f, out)
	}
	return nil
}

// body parses until one of the named end tags, whose tag name has been
// consumed when it returns, or to the end of the template.
func (p *parser) body(ends ...string) (parts []part, end string, err error) {
	if err := p.enter(); err != nil {
		return nil, "", err
	}
	defer p.leave()
	for {
		t := p.next()
		switch t.kind {
		case tData:
			parts = append(parts, &dataPart{t.text})
		case tVarBegin:
			x, err := p.tupleOrExpr()
			if err != nil {
				return nil, "", err
			}
			if p.cur().kind != tVarEnd {
				return nil, "", p.unexpected("}}")
			}
			p.next()
			parts = append(parts, &outputPart{x})
		case tBlockBegin:
			tag := p.cur()
			if tag.kind != tName {
				return nil, "", p.unexpected("the name of a statement")
			}
			p.next()
			for _, e := range ends {
				if tag.text == e {
					return parts, e, nil
				}
			}
			s, err := p.statement(tag)
			if err != nil {
				return nil, "", err
			}
			parts = append(parts, s)
		case tEOF:
			if len(ends) > 0 {
				return nil, "", errorAt(t.at, "{%% %s %%} is missing", ends[len(ends)-1])
			}
			return parts, "", nil
		}
	}
}

func (p *parser) tupleOrExpr() (node, error) {
	x, err := p.expr()
	if err != nil || !p.cur().op(",") {
		return x, err
	}
	items := []node{x}
	for p.skipOp(",") {
		if k := p.cur().kind; k == tVarEnd || k == tBlockEnd {
			break
		}
		y, err := p.expr()
		if err != nil {
			return nil, err
		}
		items = append(items, y)
	}
	return &listNode{base{x.pos()}, items, true}, nil
}

func (p *parser) blockEnd() error {
	if p.cur().kind != tBlockEnd {
		return p.unexpected("%%}")
	}
	p.next()
	return nil
}

func (p *parser) statement(tag token) (part, error) {
	switch tag.text {
	case "if":
		return p.ifStatement()
	case "for":
		return p.forStatement()
	case "set":
		name := p.cur()
		if name.kind != tName {
			return nil, p.unexpected("the name of a variable")
		}
		p.next()
		if err := p.expectOp("="); err != nil {
			return nil, err
		}
		x, err := p.tupleOrExpr()
		if err != nil {
			return nil, err
		}
		return &setPart{name.text, x}, p.blockEnd()
	case "include", "import", "from", "extends":
		return nil, errorAt(tag.at, "fleetd's templates do not read other files: {%% %s %%} is not supported", tag.text).token(tag.text)
	case "macro", "call", "filter", "block", "with", "autoescape", "do", "break", "continue", "debug":
		return nil, errorAt(tag.at, "{%% %s %%} is Jinja's, but not supported by fleetd yet", tag.text).token(tag.text)
	}
	return nil, errorAt(tag.at, "%q is no statement of Jinja, or closes one that is not open", tag.text).token(tag.text)
}

func (p *parser) ifStatement() (part, error) {
	n := &ifPart{}
	for {
		c, err := p.tupleOrExpr()
		if err != nil {
			return nil, err
		}
		if err := p.blockEnd(); err != nil {
			return nil, err
		}
		body, end, err := p.body("elif", "else", "endif")
		if err != nil {
			return nil, err
		}
		n.conds, n.bodies = append(n.conds, c), append(n.bodies, body)
		if end == "elif" {
			continue
		}
		if err := p.blockEnd(); err != nil {
			return nil, err
		}
		if end == "else" {
			if n.other, _, err = p.body("endif"); err != nil {
				return nil, err
			}
			if err := p.blockEnd(); err != nil {
				return nil, err
			}
		}
		return n, nil
	}
}

func (p *parser) forStatement() (part, error) {
	n := &forPart{at: p.cur().at}
	for {
		name := p.cur()
		if name.kind != tName {
			return nil, p.unexpected("the name of a loop variable")
		}
		n.names = append(n.names, p.next().text)
		if !p.skipOp(",") {
			break
		}
	}
	if !p.skipName("in") {
		return nil, p.unexpected("in")
	}
	var err error
	// Without an inline if: here "if" filters the loop.
	if n.seq, err = p.or(); err != nil {
		return nil, err
	}
	if p.skipName("if") {
		if n.filter, err = p.or(); err != nil {
			return nil, err
		}
	}
	if t := p.cur(); t.name("recursive") {
		return nil, errorAt(t.at, "recursive loops are not supported by fleetd").token(t.text)
	}
	if err := p.blockEnd(); err != nil {
		return nil, err
	}
	body, end, err := p.body("else", "endfor")
	if err != nil {
		return nil, err
	}
	n.body = body
	if err := p.blockEnd(); err != nil {
		return nil, err
	}
	if end == "else" {
		if n.other, _, err = p.body("endfor"); err != nil {
			return nil, err
		}
		return n, p.blockEnd()
	}
	return n, nil
}
