package node

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/fleetd/fleetd/pkg/text"
)

const header = "fleetd-facts 1 "

// Parse turns the output of the facts script into Facts. It fails if the output
// is not the script's or was cut off, and with a [rollout.Problem] if rpm or
// grubby is broken: no kernel and no boot entry would be facts to plan on. Another
// section that a node could not answer leaves its fields empty.
func Parse(output []byte) (Facts, error) {
	sections, err := split(output)
	if err != nil {
		return Facts{}, err
	}
	f := Facts{
		Hostname: sections.line("hostname"),
		Running:  sections.line("running"),
		Build:    sections.line("build"),
		Arch:     sections.line("arch"),
		BootID:   sections.line("boot-id"),
		Cmdline:  sections.line("cmdline"),
	}
	// Without these two nothing can be planned nor proven, so an empty answer is
	// a broken node and not a fact.
	if f.Running == "" || f.BootID == "" {
		return Facts{}, errors.New("the node named neither its running kernel nor its boot_id")
	}
	if err := errors.Join(brokenRPM(sections.find("rpm")), brokenGrubby(sections.find("grubby-info")), brokenGrubby(sections.find("grubby-default"))); err != nil {
		return Facts{}, err
	}
	f.OS = parseOSRelease(sections.text("os-release"))
	f.MachineID = parseMachineID(sections.text("machine-id"))
	f.Installed = parseRPM(sections.text("rpm"))
	f.Staged = parseStaged(sections.line("staged"))
	f.Boot = parseBoot(sections)
	f.FailedTrials = parseFailedTrials(sections.ok("failed-trials"))
	f.Trial = parseTrial(sections.ok("trial"))
	f.Kernels = parseKernels(sections.text("kernels"))
	f.Mounts = parseMounts(sections.text("df"), sections.text("mounts"))
	f.Boot.Grubenv = parseGrubenv(sections, f)
	f.Yum = parseYum(sections)
	f.Interfaces = parseInterfaces(sections.text("interfaces"))
	f.RootDrivers = parseWords(sections.text("root-stack"), "driver")
	f.OutOfTree = parseTaint(sections.text("modules-taint"))
	f.EFI, f.SecureBoot = parseSecureBoot(sections.text("secure-boot"))
	f.Kdump = parseKdump(sections.text("kdump"))
	f.CgroupVersion = parseCgroup(sections.line("cgroup"))
	f.Kubelet = parseKubelet(sections.ok("kubelet"))
	f.Panic = number(sections.line("panic"))
	parseRepos(sections, &f)
	parseFiles(sections, &f)
	f.Upkeep = parseUpkeep(sections)
	return f, nil
}

// section is the output of one command and its exit status.
type section struct {
	name   string
	text   string
	status int
}

// sections keeps the script's order, so that parsing is deterministic.
type sections []section

func (s sections) find(name string) section {
	i := slices.IndexFunc(s, func(x section) bool { return x.name == name })
	if i < 0 {
		return section{status: 127}
	}
	return s[i]
}

func (s sections) text(name string) string { return s.find(name).text }

// ok is the text of a section whose command succeeded. Standard error is in the
// text, so a failed command's text is an error message and no fact.
func (s sections) ok(name string) string {
	if x := s.find(name); x.status == 0 {
		return x.text
	}
	return ""
}

// line is the first line of a section whose command succeeded.
func (s sections) line(name string) string {
	first, _, _ := strings.Cut(s.ok(name), "\n")
	return strings.TrimSpace(first)
}

// split cuts the output at the nonce's markers.
func split(output []byte) (sections, error) {
	// Something may speak before the script does: a banner, a shell's profile.
	i := bytes.Index(output, []byte(header))
	if i < 0 || (i > 0 && output[i-1] != '\n') {
		return nil, errors.New("the node did not run the facts script: its output does not begin as the script's does")
	}
	first, rest, _ := strings.Cut(string(output[i+len(header):]), "\n")
	nonce := strings.TrimSpace(first)
	if nonce == "" {
		return nil, errors.New("the facts script's output has no nonce")
	}
	var out sections
	for rest != "" {
		line, tail, _ := strings.Cut(rest, "\n")
		rest = tail
		word, arg, _ := strings.Cut(strings.TrimPrefix(line, nonce+" "), " ")
		if !strings.HasPrefix(line, nonce+" ") {
			continue
		}
		switch word {
		case "done":
			return out, nil
		case "begin":
			// The script puts a newline before each end marker, so a section that
			// printed nothing has one, too.
			body, after, found := strings.Cut(rest, "\n"+nonce+" end ")
			if !found {
				return nil, fmt.Errorf("the facts script's output breaks off in section %q", arg)
			}
			status, after, _ := strings.Cut(after, "\n")
			code, err := strconv.Atoi(strings.TrimSpace(status))
			if err != nil {
				return nil, fmt.Errorf("section %q of the facts ends with %q, which is no exit status", arg, status)
			}
			// What a repository or a boot entry says comes to a terminal.
			out = append(out, section{name: arg, text: text.Printable(strings.Trim(body, "\n")), status: code})
			rest = after
		}
	}
	return nil, errors.New("the facts script's output breaks off before its end")
}

func lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.ReplaceAll(text, "\r", ""), "\n")
}

// number reads a decimal number, 0 for anything else.
func number(s string) int {
	n, _ := strconv.Atoi(strings.TrimSpace(s))
	return n
}

func size(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// assignments reads shell-like NAME=value lines (os-release, /etc/default/grub,
// /etc/sysconfig/kernel). The last one wins, as in a shell that sources the file.
func assignments(text string) map[string]string {
	out := map[string]string{}
	for _, l := range lines(text) {
		l = strings.TrimSpace(l)
		name, value, found := strings.Cut(l, "=")
		if !found || strings.HasPrefix(l, "#") {
			continue
		}
		out[strings.TrimSpace(name)] = unquote(value)
	}
	return out
}

// unquote takes off one pair of quotes, and a comment behind an unquoted value.
func unquote(v string) string {
	v = strings.TrimSpace(v)
	if v == "" {
		return ""
	}
	if q := v[0]; q == '"' || q == '\'' {
		if end := strings.IndexByte(v[1:], q); end >= 0 {
			return v[1 : end+1]
		}
		return v[1:]
	}
	if i := strings.Index(v, " #"); i >= 0 {
		v = strings.TrimSpace(v[:i])
	}
	return v
}

// parseWords collects the second word of the lines whose first is key, sorted
// and without repetition.
func parseWords(text, key string) []string {
	var out []string
	for _, l := range lines(text) {
		if w := strings.Fields(l); len(w) == 2 && w[0] == key {
			out = append(out, w[1])
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func byNEVRA(a, b Package) int { return cmp.Compare(a.NEVRA(), b.NEVRA()) }
