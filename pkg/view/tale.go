package view

import (
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
)

// TaleOptions say of what a tale tells. With any of them set it tells what the
// commands printed as well, which would drown the tale of a whole run.
type TaleOptions struct {
	// Host is the only host to tell of; "" = all.
	Host string
	// Failed leaves out the steps that did not end badly.
	Failed bool
}

// Tale tells a run step by step, with every command and every write to the
// API server, from its events. It keeps none of them; to know which steps ended
// badly, it goes through them twice.
func Tale(w io.Writer, st Style, id string, events iter.Seq2[rollout.Event, error], opts TaleOptions) error {
	t := tale{w: w, st: st, id: id, opts: opts, run: &rollout.Run{}, output: opts != (TaleOptions{})}
	if opts.Failed {
		t.end = &rollout.Run{}
		if err := fold(t.end, id, events, func(rollout.Event) error { return nil }); err != nil {
			return err
		}
	}
	return fold(t.run, id, events, t.tell)
}

// HostTale tells what happened to one host of a run, with what the commands
// printed, from the events of its steps alone.
func HostTale(w io.Writer, st Style, p *rollout.Plan, events iter.Seq2[rollout.Event, error]) error {
	t := tale{w: w, st: st, run: &rollout.Run{Plan: *p}, output: true}
	for e, err := range events {
		if err == nil && e.Step != nil {
			err = t.tell(e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fold applies the events to the run one by one, and calls f after each.
func fold(r *rollout.Run, id string, events iter.Seq2[rollout.Event, error], f func(rollout.Event) error) error {
	for e, err := range events {
		if err == nil {
			err = r.Apply(e)
		}
		if err != nil {
			return fmt.Errorf("run %s: %w", id, err)
		}
		if err := f(e); err != nil {
			return err
		}
	}
	return nil
}

type tale struct {
	w    io.Writer
	st   Style
	id   string
	opts TaleOptions
	run  *rollout.Run // as it stands at the event that is told
	end  *rollout.Run // as it ended; nil if that does not matter
	// output is set where what commands printed is told, too.
	output bool
	// waits is what each step that goes on was last said to wait for.
	waits map[rollout.StepID]string
}

// tell tells one event.
func (t *tale) tell(e rollout.Event) error {
	if e.Step == nil {
		t.tellRun(e)
		if h := t.opts.Host; e.Type == rollout.RunStarted && h != "" && !slices.Contains(t.run.Plan.Hosts(), h) {
			return fmt.Errorf("run %s has no host %q; it has %s", t.id, h, hostNames(t.run.Plan.Hosts()))
		}
		return nil
	}
	if t.opts.Host != "" && e.Step.Host != t.opts.Host || t.end != nil && !t.end.Step(*e.Step).Outcome.Bad() {
		return nil
	}
	w, st, at, who := t.w, t.st, clock(e.At), shortName(&t.run.Plan, *e.Step)
	switch e.Type {
	case rollout.StepStarted:
		if e.Attempt == 1 {
			task := t.run.Plan.Task(*e.Step)
			fmt.Fprintf(w, "%s  %s  %s %s\n", at, st.bold(who), taskName(task), st.dim("("+task.Module+")"))
		}
	case rollout.StepOperation:
		o := e.Operation
		pad := strings.Repeat(" ", 16+len(who))
		indent(w, fmt.Sprintf("%s  %s    %s ", clock(o.Started), who, prompt(o.Kind)), o.Text)
		fmt.Fprintf(w, "%s%s\n", pad, st.dim(fmt.Sprintf("%s, %s", text.Printable(o.Result), took(o.Took))))
		if t.output && o.Output != "" {
			for _, line := range strings.Split(strings.TrimRight(text.Printable(o.Output), "\n"), "\n") {
				fmt.Fprintf(w, "%s  %s\n", pad, st.dim(line))
			}
		}
	case rollout.StepProgress:
		indent(w, fmt.Sprintf("%s  %s    ", at, who), e.Text)
	case rollout.StepIntended:
		for _, k := range slices.Sorted(maps.Keys(e.Outcome.Notes)) {
			fmt.Fprintf(w, "%s  %s    %s\n", at, who, st.dim(fmt.Sprintf("remembered %s = %s", k, text.Printable(e.Outcome.Notes[k]))))
		}
	case rollout.StepEnded:
		o := e.Outcome
		if o.Message == "" && !o.Final() {
			return nil // called again at once
		}
		word := string(o.Kind)
		if o.Final() {
			delete(t.waits, *e.Step)
		} else {
			// It is looked at every few seconds, for many minutes.
			said := word + o.Message
			if t.waits[*e.Step] == said {
				return nil
			}
			if t.waits == nil {
				t.waits = map[rollout.StepID]string{}
			}
			t.waits[*e.Step] = said
		}
		if o.Bad() {
			word = st.red(word)
		}
		indent(w, fmt.Sprintf("%s  %s    %s  ", at, who, word), o.Message)
		if o.Hint != "" {
			indent(w, strings.Repeat(" ", 14+len(who)), o.Hint)
		}
	}
	return nil
}

func prompt(kind string) string {
	switch kind {
	case "ssh", "local":
		return "$"
	case "api":
		return ">"
	}
	return "[" + kind + "]"
}

func (t *tale) tellRun(e rollout.Event) {
	r, st, at := t.run, t.st, clock(e.At)
	by := ""
	if e.By != nil {
		by = ", by " + text.Printable(e.By.String())
		if e.By.Key != "" {
			by += " with key " + text.Printable(e.By.Key)
		}
	}
	switch e.Type {
	case rollout.RunStarted:
		fmt.Fprintf(t.w, "%s  run %s on %s: %s%s\n          %s\n", at, st.bold(t.id), e.At.Local().Format("2006-01-02"), madeFrom(&r.Plan), by, Summary(&r.Plan))
	case rollout.RunResumed:
		past := ""
		if e.Past {
			past = ", in spite of the halt"
		}
		fmt.Fprintf(t.w, "%s  %s on %s%s%s\n", at, st.bold("resumed"), e.At.Local().Format("2006-01-02"), past, by)
	case rollout.RunRequested:
		fmt.Fprintf(t.w, "%s  %s\n", at, st.bold(toStop(e.Request)))
	case rollout.RunHalted:
		fmt.Fprintf(t.w, "%s  %s: %s\n", at, st.red("halted"), text.Printable(e.Halt.Reason))
	default:
		fmt.Fprintf(t.w, "%s  %s\n", at, st.bold(strings.TrimPrefix(string(e.Type), "run.")))
	}
}
