package playbook

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
	"github.com/fleetd/fleetd/pkg/value"
	"github.com/fleetd/fleetd/pkg/words"
)

// shortSequence is [start-]end[/stride][:format].
// Source: ansible/plugins/lookup/sequence.py, as the rest of this file.
var shortSequence = regexp.MustCompile(`(?is)^(?:(0?x?[0-9a-f]+)-)?(0?x?[0-9a-f]+)(?:/(0?x?[0-9a-f]+))?(?::(.+))?$`)

// sequence are numbers as texts, as with_sequence counts them.
type sequence struct {
	start, end, stride int64
	count              *int64
	format             string
	ends               bool
}

func sequences(v any) ([]any, error) {
	out := []any{}
	for _, term := range asList(v) {
		text, ok := term.(string)
		if !ok {
			return nil, fmt.Errorf("with_sequence takes texts, not %s", typeName(term))
		}
		items, err := sequenceOf(text)
		if err != nil {
			return nil, err
		}
		if out = append(out, items...); len(out) > mostItems {
			return nil, tooMany(len(out))
		}
	}
	return out, nil
}

func sequenceOf(term string) ([]any, error) {
	s := sequence{start: 1, stride: 1, format: "%d"}
	if err := s.parse(term); err != nil {
		return nil, err
	}
	switch {
	case s.count == nil && !s.ends:
		return nil, errors.New("with_sequence needs count or end")
	case s.count != nil && s.ends:
		return nil, errors.New("with_sequence takes count or end, not both")
	case s.count != nil && *s.count == 0:
		return nil, nil
	case s.count != nil:
		if *s.count > mostItems {
			return nil, tooMany(int(*s.count))
		}
		s.end = s.start + *s.count*s.stride - 1
	}
	switch {
	case s.stride > 0 && s.end < s.start:
		return nil, errors.New("to count backwards make stride negative")
	case s.stride < 0 && s.end > s.start:
		return nil, errors.New("to count forwards do not make stride negative")
	case strings.Count(s.format, "%") != 1:
		return nil, fmt.Errorf("the format %q needs one %%", s.format)
	case s.stride == 0:
		return nil, nil
	}
	if n := (s.end-s.start)/s.stride + 1; n > mostItems {
		return nil, tooMany(int(n))
	}
	var out []any
	for i := s.start; s.stride > 0 && i <= s.end || s.stride < 0 && i >= s.end; i += s.stride {
		text, err := jinja.Format(s.format, i)
		if err != nil {
			return nil, err
		}
		out = append(out, text)
	}
	return out, nil
}

func (s *sequence) parse(term string) error {
	given := map[string]string{}
	if m := shortSequence.FindStringSubmatch(term); m != nil {
		for i, name := range []string{"start", "end", "stride", "format"} {
			if m[i+1] != "" {
				given[name] = m[i+1]
			}
		}
	} else {
		all, err := words.KeyValues(term)
		if err != nil {
			return err
		}
		for k, v := range all.All() {
			given[jinja.Text(k)] = jinja.Text(v)
		}
	}
	for name, text := range given {
		n, err := strconv.ParseInt(text, 0, 64)
		if name != "format" && (err != nil || n > 1<<40 || n < -1<<40) {
			return fmt.Errorf("%s=%s is no number, or too large a one", name, text)
		}
		switch name {
		case "start":
			s.start = n
		case "end":
			s.end, s.ends = n, true
		case "stride":
			s.stride = n
		case "count":
			s.count = &n
		case "format":
			s.format = text
		default:
			return fmt.Errorf("with_sequence takes start, end, count, stride and format, not %q", name)
		}
	}
	return nil
}

// subElements are the items of with_subelements: each of a list with each of a list
// within it, which the first of the pair is without.
// Source: ansible/plugins/lookup/subelements.py.
func subElements(v any) ([]any, error) {
	terms, ok := v.([]any)
	if !ok || len(terms) < 2 || len(terms) > 3 {
		return nil, errors.New("with_subelements needs a list or dictionary, a path, and perhaps {skip_missing: true}")
	}
	path, ok := terms[1].(string)
	if !ok {
		return nil, errors.New("with_subelements needs a path as its second item, such as authorized.keys")
	}
	skip := false
	if len(terms) == 3 {
		flags, ok := terms[2].(*value.Map)
		if !ok {
			return nil, errors.New("the third item of with_subelements is {skip_missing: true}")
		}
		if x, has := flags.Get("skip_missing"); has {
			b, err := boolean(x)
			if err != nil {
				return nil, err
			}
			skip = b
		}
	}
	pairs, err := jinja.SubElements(terms[0], path, skip)
	if err != nil {
		return nil, err
	}
	for i, p := range pairs {
		pair := p.([]any)
		pairs[i] = []any{without(pair[0], strings.Split(path, ".")), pair[1]}
	}
	return pairs, nil
}

// without is a value without what is at a path in it.
func without(v any, path []string) any {
	m, ok := v.(*value.Map)
	if !ok {
		return v
	}
	out := &value.Map{}
	for k, x := range m.All() {
		switch {
		case k != path[0]:
			out.Set(k, x)
		case len(path) > 1:
			out.Set(k, without(x, path[1:]))
		}
	}
	return out
}
