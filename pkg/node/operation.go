package node

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/text"
)

// The journal keeps the end of what a command printed: of one that failed more,
// because somebody will look for the reason there.
const (
	mostWhenOK     = 1 << 10
	mostWhenFailed = 4 << 10
)

// cutMark is the line that stands for what was left out before.
const cutMark = "…\n"

// describe tells in op what was run on t and how it ended.
func describe(op rollout.Operation, t sshexec.Target, c sshexec.Command, r sshexec.Result, err error) rollout.Operation {
	hide := secretsOf(t, c.Secrets)
	// Hidden before they are cut: of a secret that is cut in two, nothing would
	// be found behind it.
	op.Text = shorten(hide.redact(commandText(c)))
	op.Output = outputOf(c, r, err == nil, hide)
	switch {
	case err != nil:
		op.Result = err.Error()
	case r.Signal != "":
		op.Result = "signal " + r.Signal
	default:
		op.Result = fmt.Sprintf("rc %d", r.ExitStatus)
	}
	return hide.redactAll(op)
}

// outputOf is the end of what a command printed, its standard error behind its
// standard output, as the journal keeps it.
func outputOf(c sshexec.Command, r sshexec.Result, ended bool, hide secrets) string {
	most := mostWhenFailed
	if ended && r.OK() {
		if strings.HasSuffix(c.Script, script) {
			return "" // facts, for the parser: the journal has the plan made of them
		}
		most = mostWhenOK
	}
	var shown string
	var cut bool
	for _, stream := range [][]byte{r.Stdout, r.Stderr} {
		part := string(stream)
		if r.Truncated {
			var missing bool
			part, missing = behindGap(part, hide.lines())
			cut = cut || missing
		}
		// Not before it is printable: a colour may stand within a secret.
		part = hide.redact(text.Printable(part))
		if shown != "" && !strings.HasSuffix(shown, "\n") && part != "" {
			shown += "\n"
		}
		shown += part
	}
	return lastLines(strings.TrimRight(shown, "\n"), most, cut)
}

// gap is what stands for the middle of a long output.
var gap = regexp.MustCompile(`\n\[\.\.\. \d+ bytes left out \.\.\.\]\n`)

// behindGap is the output behind the part that is missing, if one is, less the
// lines there that may begin within a secret.
func behindGap(output string, lines int) (rest string, missing bool) {
	gaps := gap.FindAllStringIndex(output, -1)
	if gaps == nil {
		return output, false
	}
	rest = output[gaps[len(gaps)-1][1]:]
	for range lines {
		_, rest, _ = strings.Cut(rest, "\n")
	}
	return rest, true
}

// lastLines are the last whole lines of a text within so many bytes, or the end
// of the last one, if that alone is longer. cut tells that something is missing
// already.
func lastLines(text string, most int, cut bool) string {
	if room := most - 2*len(cutMark); len(text) > room {
		cut = true
		end := text[len(text)-room:]
		if _, whole, found := strings.Cut(end, "\n"); found {
			text = whole
		} else {
			text = strings.TrimLeftFunc(end, func(r rune) bool { return r == utf8.RuneError })
		}
	}
	if cut {
		return cutMark + text
	}
	return text
}
