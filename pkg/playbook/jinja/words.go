package jinja

import (
	"slices"
	"strings"
)

// Words are what a template names.
type Words struct {
	// Names are the names in it, each once. They are more than its variables:
	// attributes, filters and keywords are names, too.
	Names []string
	// OfHosts are the variables of hosts that it looks up, as x is in
	// hostvars[host].x; Whole is set where it looks at hostvars in another way, so
	// that they do not tell all.
	OfHosts []string
	Whole   bool
}

// WordsIn are the words of a template.
func WordsIn(template string) (Words, error) {
	toks, err := lexTemplate(template, nil)
	return words(toks), err
}

// WordsOf are those of an expression.
func WordsOf(expression string) (Words, error) {
	l := &lexer{src: expression}
	_, err := l.expression("", tEOF, 0, true)
	return words(l.tokens), err
}

// WordsOfFile are those of a file.
func WordsOfFile(src string, o FileOptions) (Words, error) {
	toks, err := lexTemplate(NormalNewlines(src), &o)
	return words(toks), err
}

func words(toks []token) Words {
	var w Words
	for i, t := range toks {
		if t.kind != tName {
			continue
		}
		w.Names = append(w.Names, t.text)
		if t.text != "hostvars" || i > 0 && toks[i-1].is(".") {
			continue
		}
		if name, ok := ofHost(toks[i+1:]); ok {
			w.OfHosts = append(w.OfHosts, name)
		} else {
			w.Whole = true
		}
	}
	for _, l := range []*[]string{&w.Names, &w.OfHosts} {
		slices.Sort(*l)
		*l = slices.Compact(*l)
	}
	return w
}

// is reports whether the token is this operator.
func (t token) is(op string) bool { return t.kind == tOp && t.text == op }

// ofHost is the variable that is looked up of a host, by what stands behind
// hostvars: [host].name, ["name"] or .get("name") in place of .name, or
// ", 'name'" as in map('extract', hostvars, 'name').
func ofHost(toks []token) (name string, ok bool) {
	at := func(i int) token {
		if i < len(toks) {
			return toks[i]
		}
		return token{kind: tEOF}
	}
	text := func(i int) (string, bool) { return at(i).text, at(i).kind == tString }
	if at(0).is(",") {
		if at(1).is("[") {
			return text(2)
		}
		return text(1)
	}
	next := 2 // behind .host
	if at(0).is("[") {
		next = 0
		for depth := 0; ; next++ {
			if at(next).kind == tEOF {
				return "", false
			}
			if t := at(next); t.is("[") || t.is("(") || t.is("{") {
				depth++
			} else if t.is("]") || t.is(")") || t.is("}") {
				depth--
			}
			if depth == 0 {
				break
			}
		}
		next++
	} else if !at(0).is(".") {
		return "", false
	}
	switch {
	case at(next).is(".") && at(next+1).kind == tName && at(next+1).text == "get" && at(next+2).is("("):
		return text(next + 3)
	case at(next).is(".") && at(next+1).kind == tName:
		return at(next + 1).text, !at(next + 2).is("(")
	case at(next).is("["):
		name, ok := text(next + 1)
		return name, ok && at(next+2).is("]")
	}
	return "", false
}

// JSON is v as to_json writes it: numbers keep their type, mappings their order.
// What is no data, such as hostvars or a secret, is an error.
func JSON(v any) ([]byte, error) {
	if err := plainData(v); err != nil {
		return nil, err
	}
	var b strings.Builder
	writeJSON(&b, v, "", "\n")
	return []byte(b.String()), nil
}

// FromJSON reads what JSON wrote, and any other JSON.
func FromJSON(raw []byte) (any, error) { return fromJSON(string(raw)) }
