package playbook

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/go-multierror"

	"github.com/fleetd/fleetd/pkg/text"
)

// located is embedded under another name than its method has.
type located = text.Error

// Error is one thing that is wrong in a playbook.
type Error struct {
	located
	// Hosts are those that the error was met on; nil if it does not depend on
	// the host.
	Hosts []string
}

// Error is the position and the cause, the line with a caret under it, and the
// hint.
func (e *Error) Error() string {
	shown := e.located
	if len(e.Hosts) > 0 {
		shown.Message += " (on " + hostList(e.Hosts) + ")"
	}
	return shown.Error()
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

// maxErrors bounds what is reported: a person fixes the first ones and looks again.
const maxErrors = 100

// report collects what is wrong, so that all of it is told at once.
type report struct {
	errs     []*Error
	index    map[string]*Error
	dropped  int
	warnings []text.Warning
	warned   map[text.Warning]bool
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

func (r *report) warn(p text.Place, format string, a ...any) {
	w := text.Warning{Place: p, Message: fmt.Sprintf(format, a...)}
	if r.warned == nil {
		r.warned = map[text.Warning]bool{}
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
