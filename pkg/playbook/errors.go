package playbook

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/go-multierror"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// Error is one thing that is wrong in a playbook.
type Error struct {
	rollout.Position
	// Text is the line in question, with a caret at character Caret (from 0;
	// -1 for none).
	Text    string
	Caret   int
	Message string
	// Hint says what to do; it may be empty.
	Hint string
	// Hosts are those that the error was met on; nil if it does not depend on
	// the host.
	Hosts []string
}

// Error is the position and the cause, the line with a caret under it, and the
// hint.
func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.String() + ": ")
	}
	b.WriteString(e.Message)
	if len(e.Hosts) > 0 {
		b.WriteString(" (on " + hostList(e.Hosts) + ")")
	}
	if e.Text != "" {
		b.WriteString("\n    " + e.Text)
		if e.Caret >= 0 {
			b.WriteString("\n    ")
			// Tabs stay tabs, so that the caret stands where it should.
			for i, r := range []rune(e.Text) {
				if i == e.Caret {
					break
				}
				if r != '\t' {
					r = ' '
				}
				b.WriteRune(r)
			}
			b.WriteByte('^')
		}
	}
	if e.Hint != "" {
		b.WriteString("\n" + e.Hint)
	}
	return b.String()
}

// hostList names up to three hosts.
func hostList(hosts []string) string {
	const shown = 3
	switch n := len(hosts); {
	case n > shown+1:
		return fmt.Sprintf("%s and %d more hosts", strings.Join(hosts[:shown], ", "), n-shown)
	case n > 1:
		return strings.Join(hosts[:n-1], ", ") + " and " + hosts[n-1]
	}
	return hosts[0]
}

// Warning is something that Ansible accepts and speaks of; so does fleetd.
type Warning struct {
	rollout.Position
	Message string
}

func (w Warning) String() string {
	if w.File == "" {
		return w.Message
	}
	return w.Position.String() + ": " + w.Message
}

// maxErrors bounds what is reported: a person fixes the first ones and looks again.
const maxErrors = 100

// report collects what is wrong, so that all of it is told at once.
type report struct {
	errs     []*Error
	index    map[string]*Error
	dropped  int
	warnings []Warning
	warned   map[Warning]bool
}

// add notes an error. The same one on another host only adds the host.
func (r *report) add(e *Error) {
	key := e.String() + "\x00" + e.Message
	if old, ok := r.index[key]; ok {
		for _, h := range e.Hosts {
			if !slices.Contains(old.Hosts[max(0, len(old.Hosts)-1):], h) {
				old.Hosts = append(old.Hosts, h)
			}
		}
		return
	}
	if len(r.errs) == maxErrors {
		r.dropped++
		return
	}
	if r.index == nil {
		r.index = map[string]*Error{}
	}
	r.index[key] = e
	r.errs = append(r.errs, e)
}

func (r *report) warn(p rollout.Position, format string, a ...any) {
	w := Warning{p, fmt.Sprintf(format, a...)}
	if r.warned == nil {
		r.warned = map[Warning]bool{}
	}
	if !r.warned[w] {
		r.warned[w] = true
		r.warnings = append(r.warnings, w)
	}
}

// err is all errors in the order of files and lines, or nil.
func (r *report) err() error {
	if len(r.errs) == 0 {
		return nil
	}
	slices.SortStableFunc(r.errs, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	out := &multierror.Error{ErrorFormat: r.format}
	for _, e := range r.errs {
		out.Errors = append(out.Errors, e)
	}
	return out
}

func (r *report) format(errs []error) string {
	texts := make([]string, len(errs))
	for i, e := range errs {
		texts[i] = e.Error()
	}
	if r.dropped > 0 {
		texts = append(texts, fmt.Sprintf("and %d more errors", r.dropped))
	}
	return strings.Join(texts, "\n\n")
}
