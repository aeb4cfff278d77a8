package playbook

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/value"
)

// coerce makes a value of the type that a parameter has, as Ansible does, but
// for one thing: a number with a fraction is no text, because YAML has already
// made 6.1 of a kernel version 6.10. before is the value before a template
// turned it into text, if there was one. ok is false if the parameter counts as
// not given.
func coerce(v, before any, p rollout.Param) (out any, err error) {
	if s, ok := v.(value.Unsafe); ok {
		v = string(s)
	}
	if v == nil {
		return nil, nil
	}
	switch p.Type {
	case rollout.Any:
		return v, nil
	case rollout.String, rollout.File, rollout.Template:
		if _, ok := before.(float64); ok {
			v = before
		}
		s, err := textOf(v)
		if err != nil {
			return nil, err
		}
		return s, choice(s, p.Choices)
	case rollout.Bool:
		return boolean(v)
	case rollout.Int:
		return whole(v)
	case rollout.Duration:
		return duration(v)
	case rollout.Strings:
		l, ok := v.([]any)
		if !ok {
			l = []any{v}
		}
		items := make([]any, len(l))
		for i, x := range l {
			s, err := textOf(x)
			if err == nil {
				err = choice(s, p.Choices)
			}
			if err != nil {
				return nil, fmt.Errorf("item %d %w", i+1, err)
			}
			items[i] = s
		}
		return items, nil
	}
	return nil, fmt.Errorf("has the type %q, which the compiler does not know", p.Type)
}

func choice(s string, choices []string) error {
	if len(choices) == 0 || slices.Contains(choices, s) {
		return nil
	}
	all := strings.Join(choices, ", ")
	if near := jinja.Nearest(s, choices); near != "" {
		return fmt.Errorf("cannot be %q: did you mean %s? (it is one of %s)", s, near, all)
	}
	return fmt.Errorf("cannot be %q: it is one of %s", s, all)
}

func textOf(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case value.Unsafe:
		return string(v), nil
	case value.Timestamp:
		return v.Str, nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case float64:
		return "", fmt.Errorf("is the number %s where a text belongs: put it in quotes where it is written, because YAML drops zeros (6.10 is 6.1)", jinja.Text(v))
	case bool:
		return "", fmt.Errorf("is the boolean %t where a text belongs: put it in quotes", v)
	}
	return "", fmt.Errorf("is %s where a text belongs", typeName(v))
}

func typeName(v any) string {
	switch v.(type) {
	case nil:
		return "nothing"
	case string, value.Unsafe, value.Secret:
		return "a text"
	case bool:
		return "a boolean"
	case value.Timestamp:
		return "a date"
	case int64:
		return "a whole number"
	case float64:
		return "a number"
	case []any:
		return "a list"
	case *value.Map:
		return "a mapping"
	}
	return "a value of another kind"
}

func boolean(v any) (bool, error) {
	switch x := v.(type) {
	case bool:
		return x, nil
	case int64, float64:
		if jinja.Equal(v, int64(1)) || jinja.Equal(v, int64(0)) {
			return jinja.Truth(v), nil
		}
	case string:
		switch strings.ToLower(strings.TrimSpace(x)) {
		case "y", "yes", "on", "1", "true", "t", "1.0":
			return true, nil
		case "n", "no", "off", "0", "false", "f", "0.0":
			return false, nil
		}
		return false, fmt.Errorf("is %q where true or false belongs", x)
	}
	return false, fmt.Errorf("is %s where true or false belongs", typeName(v))
}

func whole(v any) (int64, error) {
	switch x := v.(type) {
	case int64:
		return x, nil
	case float64:
		if x == math.Trunc(x) && math.Abs(x) < 1<<53 {
			return int64(x), nil
		}
		return 0, fmt.Errorf("is %s where a whole number belongs", jinja.Text(x))
	case string:
		if n, err := strconv.ParseInt(strings.TrimSpace(x), 10, 64); err == nil {
			return n, nil
		}
		return 0, fmt.Errorf("is %q where a whole number belongs", x)
	}
	return 0, fmt.Errorf("is %s where a whole number belongs", typeName(v))
}

// maxSeconds keeps a number of seconds within what a time.Duration holds.
const maxSeconds = math.MaxInt64 / int64(time.Second)

// duration normalises "10m", "600" and 600 to what time.ParseDuration takes.
func duration(v any) (string, error) {
	var d time.Duration
	switch x := v.(type) {
	case int64:
		if x > maxSeconds {
			return "", fmt.Errorf("is longer than 292 years")
		}
		d = time.Duration(max(x, -1)) * time.Second
	case float64:
		if math.IsNaN(x) || math.Abs(x) > float64(maxSeconds) {
			return "", fmt.Errorf("is no duration")
		}
		d = time.Duration(x * float64(time.Second))
	case string:
		s := strings.TrimSpace(x)
		if n, err := strconv.ParseFloat(s, 64); err == nil {
			return duration(n)
		}
		var err error
		if d, err = time.ParseDuration(s); err != nil {
			return "", fmt.Errorf("is %q where a duration belongs, such as 90s, 10m or 1h30m", x)
		}
	default:
		return "", fmt.Errorf("is %s where a duration belongs, such as 90s, 10m or 1h30m", typeName(v))
	}
	if d < 0 {
		return "", fmt.Errorf("is a negative duration")
	}
	return d.String(), nil
}
