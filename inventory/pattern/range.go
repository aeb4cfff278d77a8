package pattern

import (
	"strconv"
	"strings"

	"github.com/fleetd/fleetd/pkg/text"
)

const rangeHint = "Write it as in web[1:20], web[01:20], web[1:20:2] or web[a:f]."

const asciiLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

// Expand adds the hosts that a host line names to into, and returns their port,
// too (0 = none given): web[01:20:2].example.org:2222, [::1]:22. Numbers that run
// backwards name no host, as in Ansible.
func Expand(into []string, pattern string, limit int) (hosts []string, port int, err error) {
	if !strings.ContainsAny(pattern, "[:") { // most names there are
		return append(into, pattern), 0, nil
	}
	name, port, ok := SplitAddress(pattern)
	if !ok {
		name, port = pattern, 0
	}
	if !strings.Contains(name, "[") {
		return append(into, name), port, nil
	}
	hosts, err = expandRange(into, name, limit)
	return hosts, port, err
}

func expandRange(into []string, name string, limit int) ([]string, error) {
	parts := strings.Split(strings.Replace(strings.Replace(name, "[", "|", 1), "]", "|", 1), "|")
	if len(parts) != 3 {
		return nil, text.Advise(rangeHint, "%q is not a host range", text.Clip(name))
	}
	head, tail := parts[0], parts[2]
	bounds := strings.Split(parts[1], ":")
	if len(bounds) != 2 && len(bounds) != 3 {
		return nil, text.Advise(rangeHint, "a host range is [begin:end] or [begin:end:step], not [%s]", text.Clip(parts[1]))
	}
	begin, end := bounds[0], bounds[1]
	step := 1
	if begin == "" {
		begin = "0"
	}
	if end == "" {
		return nil, text.Advise(rangeHint, "the host range [%s] has no end", text.Clip(parts[1]))
	}
	if len(bounds) == 3 {
		n, err := pythonInt(bounds[2])
		if err != nil || n == 0 {
			return nil, text.Advise(rangeHint, "the step of the host range [%s] must be a whole number above 0", text.Clip(parts[1]))
		}
		step = n
	}
	width := 0
	if begin[0] == '0' && len(begin) > 1 {
		if width = len(begin); width != len(end) {
			return nil, text.Advise("Pad both, as in web[01:20], or none.", "the bounds of the zero-padded host range [%s] must have the same length", text.Clip(parts[1]))
		}
	}
	add := func(s string) error {
		if len(into) >= limit {
			return text.Advise("Check the bounds.", "the host range %q has more than %d hosts", text.Clip(name), limit)
		}
		var err error
		if s = head + s + tail; strings.Contains(s, "[") {
			into, err = expandRange(into, s, limit)
		} else {
			into = append(into, s)
		}
		return err
	}
	if i, j := strings.Index(asciiLetters, begin), strings.Index(asciiLetters, end); i >= 0 && j >= 0 {
		if i > j {
			return nil, text.Advise("Write the lower bound first.", "the host range [%s] runs backwards", text.Clip(parts[1]))
		}
		for ; step > 0 && i <= j; i += step {
			if err := add(asciiLetters[i : i+1]); err != nil {
				return nil, err
			}
		}
		return into, nil
	}
	from, err := pythonInt(begin)
	to, err2 := pythonInt(end)
	if err != nil || err2 != nil {
		return nil, text.Advise(rangeHint, "the host range [%s] must have two numbers or two letters", text.Clip(parts[1]))
	}
	if step < 0 {
		return into, nil
	}
	for ; from <= to; from += step {
		s := strconv.Itoa(from)
		for len(s) < width {
			s = "0" + s
		}
		if err := add(s); err != nil {
			return nil, err
		}
		if from > to-step { // no overflow at the largest number
			break
		}
	}
	return into, nil
}

// pythonInt is Python's int(s).
func pythonInt(s string) (int, error) {
	return strconv.Atoi(strings.TrimSpace(strings.ReplaceAll(s, "_", "")))
}
