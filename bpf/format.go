package bpf

import (
	"bufio"
	"bytes"
	"fmt"
	"regexp"
	"strconv"
)

// field is one field of a tracepoint's record, as its format file describes it.
type field struct{ offset, size int }

var fieldPattern = regexp.MustCompile(`^\s*field:([^;]*?)([A-Za-z_]\w*)(?:\[[^\]]*\])?;\s*offset:(\d{1,6});\s*size:(\d{1,6});`)

// parseFormat reads the fields of a tracepoint from the text of its file
// events/<group>/<name>/format in tracefs.
func parseFormat(text []byte) (map[string]field, error) {
	fields := map[string]field{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		m := fieldPattern.FindSubmatch(lines.Bytes())
		if m == nil {
			continue
		}
		name := string(m[2])
		if _, twice := fields[name]; twice {
			return nil, fmt.Errorf("field %s appears twice", name)
		}
		offset, _ := strconv.Atoi(string(m[3]))
		size, _ := strconv.Atoi(string(m[4]))
		fields[name] = field{offset, size}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(fields) == 0 {
		return nil, fmt.Errorf("no field in it")
	}
	return fields, nil
}

// recordLayout is a layout of the record of sock:inet_sock_set_state, and the
// program in tcp_connect.c that was compiled for it.
type recordLayout struct {
	program string
	since   string
	fields  map[string]field
}

// recordLayouts are struct record_u16 and struct record_u8 in tcp_connect.c.
var recordLayouts = []recordLayout{
	{"tcp_connect", "Linux 5.6", map[string]field{
		"skaddr": {8, 8}, "oldstate": {16, 4}, "newstate": {20, 4},
		"sport": {24, 2}, "dport": {26, 2}, "family": {28, 2}, "protocol": {30, 2},
		"saddr_v6": {40, 16}, "daddr_v6": {56, 16},
	}},
	{"tcp_connect_u8", "Linux 4.16", map[string]field{
		"skaddr": {8, 8}, "oldstate": {16, 4}, "newstate": {20, 4},
		"sport": {24, 2}, "dport": {26, 2}, "family": {28, 2}, "protocol": {30, 1},
		"saddr_v6": {39, 16}, "daddr_v6": {55, 16},
	}},
}

// chooseProgram names the program that reads records of this kernel rightly. A
// wrong offset would load all the same and report nonsense, so there is no
// falling back: a layout that is not known is an error.
func chooseProgram(format []byte) (string, error) {
	got, err := parseFormat(format)
	if err != nil {
		return "", err
	}
	var why string
	for _, layout := range recordLayouts {
		name, ok := firstDifference(layout.fields, got)
		if ok {
			return layout.program, nil
		}
		why += fmt.Sprintf("; the layout since %s has %s at offset %d, %d bytes long, here it is %s",
			layout.since, name, layout.fields[name].offset, layout.fields[name].size, describe(got, name))
	}
	return "", fmt.Errorf("its layout is not a known one%s", why)
}

// firstDifference returns the first field of want, by offset, that got has
// otherwise; ok means there is none.
func firstDifference(want, got map[string]field) (name string, ok bool) {
	for n, w := range want {
		if got[n] != w && (name == "" || w.offset < want[name].offset) {
			name = n
		}
	}
	return name, name == ""
}

func describe(fields map[string]field, name string) string {
	f, ok := fields[name]
	if !ok {
		return "missing"
	}
	return fmt.Sprintf("at %d, %d bytes long", f.offset, f.size)
}
