package local

import (
	"fmt"
	"strings"
)

// configFile is an ansible.cfg: sections of keys, as Python's configparser
// reads them.
type configFile struct {
	path     string
	sections map[string]map[string]string
}

func (f *configFile) get(section, key string) (string, bool) {
	v, ok := f.sections[section][key]
	return v, ok
}

// parseConfig reads key = value and key: value lines; indented lines go on
// with the value before; ; and # start comment lines, " ;" a comment behind a
// value.
func parseConfig(path string, data []byte) (*configFile, error) {
	f := &configFile{path: path, sections: map[string]map[string]string{}}
	var section map[string]string
	name, last := "", ""
	fail := func(n int, line, format string, args ...any) error {
		return fmt.Errorf("cannot read the configuration: %w", &lineError{path, n + 1, line, fmt.Sprintf(format, args...)})
	}
	for n, line := range strings.Split(strings.TrimPrefix(string(data), "\ufeff"), "\n") {
		full := strings.TrimRight(line, "\r")
		text := strings.TrimSpace(full)
		if text == "" || text[0] == '#' || text[0] == ';' {
			continue
		}
		for i := 1; i < len(text); i++ {
			if text[i] == ';' && (text[i-1] == ' ' || text[i-1] == '\t') {
				text = strings.TrimSpace(text[:i])
				break
			}
		}
		switch {
		case (full[0] == ' ' || full[0] == '\t') && last != "":
			section[last] = strings.TrimSpace(section[last] + "\n" + text)
		case text[0] == '[':
			end := strings.IndexByte(text, ']')
			if end < 0 {
				return nil, fail(n, full, "the section header is not closed by ]")
			}
			name, last = text[1:end], ""
			if f.sections[name] != nil {
				return nil, fail(n, full, "section [%s] stands twice", name)
			}
			section = map[string]string{}
			f.sections[name] = section
		case section == nil:
			return nil, fail(n, full, "a setting stands before the first [section]")
		default:
			i := strings.IndexAny(text, "=:")
			if i < 1 {
				return nil, fail(n, full, "key = value is expected")
			}
			last = strings.ToLower(strings.TrimSpace(text[:i]))
			if _, ok := section[last]; ok {
				return nil, fail(n, full, "%s stands twice in section [%s]", last, name)
			}
			section[last] = strings.TrimSpace(text[i+1:])
		}
	}
	return f, nil
}

type lineError struct {
	path    string
	line    int
	text    string
	message string
}

func (e *lineError) Error() string {
	return fmt.Sprintf("%s:%d: %s\n    %s", e.path, e.line, e.message, e.text)
}
