// Package view is what a person reads: a plan for review, the progress of a
// run, the tale of a run that is over. It only arranges what the core says;
// it decides nothing, and however slow the reader is, a run does not wait for it
// (Output). Machines read the JSON of the same values instead.
package view

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/fleetd/fleetd/pkg/text"
)

// Style turns emphasis on or off.
type Style struct{ Colour bool }

// StyleFor is the style for a writer: colour only on a terminal, and not when
// NO_COLOR is set (no-color.org) or the terminal is dumb.
func StyleFor(w io.Writer) Style {
	return Style{Colour: Terminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

// Terminal reports whether w is a terminal.
func Terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// columns is the width of the terminal that w is; 0 if it is none, or does not
// tell.
func columns(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

func (s Style) paint(code, text string) string {
	if !s.Colour || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s Style) bold(t string) string   { return s.paint("1", t) }
func (s Style) dim(t string) string    { return s.paint("2", t) }
func (s Style) red(t string) string    { return s.paint("1;31", t) }
func (s Style) green(t string) string  { return s.paint("32", t) }
func (s Style) yellow(t string) string { return s.paint("33", t) }

// count writes "1 host", "3 hosts".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if strings.HasSuffix(noun, "ch") {
		return fmt.Sprintf("%d %ses", n, noun)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// took writes a duration as people say it: tenths below ten seconds, whole
// seconds above, and no seconds or minutes that are none.
func took(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	s := d.Round(time.Second).String()
	if rest, ok := strings.CutSuffix(s, "m0s"); ok {
		s = rest + "m"
	}
	if rest, ok := strings.CutSuffix(s, "h0m"); ok {
		s = rest + "h"
	}
	return s
}

// Took is a duration that is going on as people say it: it changes no more often
// than somebody wants to know.
func Took(d time.Duration) string {
	switch {
	case d >= 10*time.Minute:
		d = d.Truncate(time.Minute)
	case d >= time.Minute:
		d = d.Truncate(10 * time.Second)
	case d >= 10*time.Second:
		d = d.Truncate(5 * time.Second)
	default:
		d = d.Truncate(time.Second)
		return fmt.Sprintf("%ds", int(d.Seconds()))
	}
	return took(d)
}

// indent writes text of a node or of the cluster as indented gives it.
func indent(w io.Writer, prefix, text string) { fmt.Fprintln(w, indented(prefix, text)) }

// indented is a text with every line after prefix; the lines after the first get
// as many spaces.
func indented(prefix, s string) string {
	pad := strings.Repeat(" ", len([]rune(text.Printable(prefix)))) // without its colours
	lines := strings.Split(strings.TrimRight(text.Printable(s), "\n"), "\n")
	return prefix + strings.Join(lines, "\n"+pad)
}
