package cluster

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// The playbook compiler has checked names and types against Params already;
// what is left here are defaults, and the forms that a template's value takes.

// ArgString is an argument as text.
func ArgString(a rollout.Args, name, absent string) string {
	switch v := a[name].(type) {
	case nil:
		return absent
	case string:
		return orWord(v, absent)
	default:
		return fmt.Sprint(v)
	}
}

// ArgBool is an argument that is yes or no.
func ArgBool(a rollout.Args, name string, absent bool) (bool, error) {
	switch v := a[name].(type) {
	case nil:
		return absent, nil
	case bool:
		return v, nil
	default:
		b, err := strconv.ParseBool(fmt.Sprint(v))
		if err != nil {
			return false, fmt.Errorf("%s is %v, not a bool", name, v)
		}
		return b, nil
	}
}

// ArgInt is an argument that is a whole number.
func ArgInt(a rollout.Args, name string, absent int) (int, error) {
	text := ArgString(a, name, "")
	if text == "" {
		return absent, nil
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n != float64(int(n)) {
		return 0, fmt.Errorf("%s is %q, not a whole number", name, text)
	}
	return int(n), nil
}

// ArgTimeout is the argument timeout.
func ArgTimeout(a rollout.Args, absent time.Duration) (time.Duration, error) {
	return argDuration(a, "timeout", absent)
}

// argDuration also takes a bare number of seconds, as Ansible's timeouts are.
func argDuration(a rollout.Args, name string, absent time.Duration) (time.Duration, error) {
	text := ArgString(a, name, "")
	if text == "" {
		return absent, nil
	}
	if seconds, err := strconv.Atoi(text); err == nil {
		text = fmt.Sprintf("%ds", seconds)
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%s is %q, not a duration such as 10m", name, text)
	}
	return d, nil
}

// ArgStrings is a list of texts, or one.
func ArgStrings(a rollout.Args, name string) ([]string, error) {
	switch v := a[name].(type) {
	case nil:
		return nil, nil
	case []string:
		return v, nil
	case []any:
		var out []string
		for _, one := range v {
			text, ok := one.(string)
			if !ok {
				return nil, fmt.Errorf("%s has %v, not a text", name, one)
			}
			out = append(out, text)
		}
		return out, nil
	default:
		return []string{fmt.Sprint(v)}, nil
	}
}

// ArgChoice is one of the strings, to the letter.
func ArgChoice(a rollout.Args, name, absent string, choices ...string) (string, error) {
	v := ArgString(a, name, absent)
	for _, c := range choices {
		if v == c {
			return v, nil
		}
	}
	return "", fmt.Errorf("%s is %q, not one of %q", name, v, choices)
}

// Pack puts a module's own data into a change.
func Pack(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain structs of this package
	}
	return raw
}

// unpack reads it back. A change that another fleetd made may not fit.
func unpack[T any](s rollout.Step) (T, error) {
	var v T
	if err := json.Unmarshal(s.Change.Data, &v); err != nil {
		return v, fmt.Errorf("the plan's data for this step cannot be read (was it made by another version of fleetd?): %w", err)
	}
	return v, nil
}

// NoOp is the change of a task that has nothing to do, and why.
func NoOp(format string, a ...any) rollout.Change {
	return rollout.Change{Action: rollout.NoOp, Summary: fmt.Sprintf(format, a...)}
}
