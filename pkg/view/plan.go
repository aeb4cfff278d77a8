package view

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
)

// symbols are Terraform's marks for an action.
var symbols = map[rollout.Action]string{
	rollout.Create: "+", rollout.Update: "~", rollout.Replace: "±", rollout.Delete: "-", rollout.ReadOnly: "?", rollout.NoOp: " ",
	rollout.Exec: ">",
}

// Plan writes a plan for review: play by play, hosts with the same changes
// together, then the risks, the hosts with problems and a summary.
func Plan(w io.Writer, st Style, p *rollout.Plan) {
	fmt.Fprintf(w, "%s  %s\n", st.bold(title(p)), madeFrom(p))
	if len(p.Source.Limit) > 0 {
		fmt.Fprintf(w, "limited to %s\n", givenAll(p.Source.Limit, ", "))
	}
	if len(p.Source.ExtraVars) > 0 {
		// They reach what no change shows: how hosts are connected to.
		fmt.Fprintf(w, "with the variables %s\n", givenAll(p.Source.ExtraVars, ", "))
	}
	if len(p.Source.Tags) > 0 {
		fmt.Fprintf(w, "only tasks tagged %s\n", givenAll(p.Source.Tags, ", "))
	}
	if p.Source.StartAtTask != "" {
		fmt.Fprintf(w, "%s no task before %q\n", st.yellow("!"), p.Source.StartAtTask)
	}
	if len(p.Source.SkipTags) > 0 {
		fmt.Fprintf(w, "%s no task tagged %s\n", st.yellow("!"), givenAll(p.Source.SkipTags, ", "))
	}
	planDown(w, st, p)
	if line := controlPlane(p); line != "" {
		fmt.Fprintf(w, "%s %s\n", st.yellow("!"), line)
	}
	for pi := range p.Plays {
		planPlay(w, st, p, pi)
	}
	problems := p.Problems()
	if len(problems) > 0 {
		fmt.Fprintf(w, "\n%s\n", st.red("Problems: nothing will be touched on these hosts, and each of them counts as failed in its batch"))
		Problems(w, st, problems)
	}
	fmt.Fprintf(w, "\n%s\n", st.bold(Summary(p)))
	if p.Digest != "" && p.Steps() > 0 {
		text := "digest " + p.Digest
		if p.Undoes == "" {
			text += "  (apply --expect takes it)"
		}
		fmt.Fprintln(w, st.dim(text))
	}
}

func title(p *rollout.Plan) string {
	if p.Undoes != "" {
		return "fleetd undo of run " + given(p.Undoes)
	}
	return "fleetd plan"
}

// given is a word of the command line that a plan was made with. The plan may be of
// somebody else: what would hide in it, as a carriage return does, is written out.
func given(word string) string {
	if strings.ContainsFunc(word, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(word)
	}
	return word
}

func givenAll(all []string, between string) string {
	var out []string
	for _, word := range all {
		out = append(out, given(word))
	}
	return strings.Join(out, between)
}

func madeFrom(p *rollout.Plan) string {
	return fmt.Sprintf("inventory %s, playbook %s", givenAll(p.Source.Inventories, " + "), given(p.Source.Playbook))
}

// planDown writes the hosts that are out of service as it stands, with the same
// reason together.
func planDown(w io.Writer, st Style, p *rollout.Plan) {
	if len(p.Down) == 0 {
		return
	}
	byReason := map[string][]string{}
	for h, reason := range p.Down {
		byReason[reason] = append(byReason[reason], h)
	}
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(byReason)) {
		parts = append(parts, hostNames(byReason[reason])+": "+serving(reason))
	}
	fmt.Fprintf(w, "%s out of service already: %s\n", st.yellow("!"), strings.Join(parts, "; "))
}

// controlPlane warns of a control plane that has lost a member, or that has none
// to spare while the plan takes one out of service. "" = there is nothing to
// warn of, or it is not known.
func controlPlane(p *rollout.Plan) string {
	c := p.ControlPlane
	what, noun, members := "etcd", "member", c.Members
	if len(members) == 0 {
		what, noun = "the control plane", "host"
		for _, h := range c.Hosts {
			members = append(members, rollout.Member{Name: h, Down: p.Down[h]})
		}
	}
	var down []string
	for _, m := range members {
		if m.Down != "" {
			down = append(down, m.Name+" "+text.Printable(m.Down))
		}
	}
	n := len(members)
	taken := false
	p.Each(func(id rollout.StepID, s rollout.PlannedStep) bool {
		taken = taken || s.Change.Disruptive && c.Has(id.Host)
		return !taken
	})
	switch {
	case n == 0:
		return ""
	case len(down) > 0:
		return fmt.Sprintf("%s: %d of %s out of service (%s), and %d must serve", what, len(down), count(n, noun), strings.Join(down, ", "), rollout.Quorum(n))
	case n == 1 && taken:
		return fmt.Sprintf("%s has 1 %s: while it is out of service the API server is away", what, noun)
	case n == 2 && taken:
		return fmt.Sprintf("%s has 2 %ss: while one is out of service the API server is away", what, noun)
	}
	return ""
}

// Summary is the plan in one line.
func Summary(p *rollout.Plan) string {
	changes := p.Changes()
	var bad []string
	for _, hp := range p.Problems() {
		bad = append(bad, hp.Host)
	}
	switch {
	case changes == 0 && p.Steps() > 0 && p.Undoes != "":
		return "Nothing can be taken back: nobody knows what undoes the commands of the playbook."
	case changes == 0 && p.Steps() > 0 && len(bad) == 0:
		return fmt.Sprintf("No changes; %s on %s.", count(p.Steps(), "check"), places(p, checked(p)))
	case changes == 0 && len(bad) == 0 && p.Undoes != "":
		return fmt.Sprintf("Nothing to take back: run %s changed nothing.", given(p.Undoes))
	case changes == 0 && len(bad) == 0:
		return fmt.Sprintf("No changes. %s as the playbook wants.", hostsAre(p))
	case changes == 0:
		return fmt.Sprintf("Nothing can be done: %s with a problem.", hostNames(bad))
	}
	hosts := map[string]bool{}
	disrupted := map[string]bool{}
	p.Each(func(id rollout.StepID, s rollout.PlannedStep) bool {
		if s.Problem == nil && s.Change.Action.Writes() && !p.Standby(id) {
			hosts[id.Host] = true
			if s.Change.Disruptive {
				disrupted[id.Host] = true
			}
		}
		return true
	})
	s := fmt.Sprintf("Plan: %s on %s", count(changes, "change"), places(p, hosts))
	if p.Undoes != "" {
		s = fmt.Sprintf("Undo: %s to take back on %s", count(changes, "change"), places(p, hosts))
	}
	if n := rescues(p); n > 0 {
		s += fmt.Sprintf("; where a block fails %d more", n)
	}
	clusterOut := disrupted[rollout.Localhost]
	delete(disrupted, rollout.Localhost)
	if n := len(disrupted); n > 0 {
		s += fmt.Sprintf("; %s out of service for a while", count(n, "host"))
	}
	if clusterOut {
		s += "; the cluster's data plane is disturbed"
	}
	if len(bad) > 0 {
		s += fmt.Sprintf("; with a problem: %s", hostNames(bad))
	}
	return s + "."
}

// rescues counts the changes that are made only where others fail.
func rescues(p *rollout.Plan) (n int) {
	p.Each(func(id rollout.StepID, s rollout.PlannedStep) bool {
		if s.Problem == nil && s.Change.Action.Writes() && p.Plays[id.Play].Blocks.Rescue(id.Task) {
			n++
		}
		return true
	})
	return n
}

// checked are the hosts that have steps, though none that writes.
func checked(p *rollout.Plan) map[string]bool {
	out := map[string]bool{}
	p.Each(func(id rollout.StepID, s rollout.PlannedStep) bool {
		if s.Change.Action == rollout.ReadOnly {
			out[id.Host] = true
		}
		return true
	})
	return out
}

func hostsAre(p *rollout.Plan) string {
	n := len(p.Hosts())
	if slices.Contains(p.Hosts(), rollout.Localhost) && aboutCluster(p) {
		return fmt.Sprintf("%s and the cluster are", count(n-1, "host"))
	}
	if n == 1 {
		return "1 host is"
	}
	return count(n, "host") + " are"
}

// group is hosts of one play for which the same is planned.
type group struct {
	hosts []string
	steps []int // tasks, in order
	// plan is what is planned, to compare.
	plan string
	// own is set where what is planned for each names the host itself.
	own bool
}

func planPlay(w io.Writer, st Style, p *rollout.Plan, pi int) {
	play := p.Plays[pi]
	fmt.Fprintf(w, "\n%s  %s\n", st.bold(fmt.Sprintf("Play %d/%d: %s", pi+1, len(p.Plays), play.Name)), st.dim(play.Position.String()))
	if line := order(play); line != "" {
		fmt.Fprintf(w, "  %s\n", line)
	}
	gs := groups(p, pi)
	if len(gs) == 0 {
		fmt.Fprintln(w, "  every host of this play has a problem, see below")
	}
	for _, g := range gs {
		fmt.Fprintf(w, "\n  %s\n", st.bold(hostNames(named(p, g.hosts))))
		if g.own {
			fmt.Fprintf(w, "    %s\n", st.dim(fmt.Sprintf("as it is for %s; for the others with their own names in its place", g.hosts[0])))
		}
		if len(g.steps) == 0 {
			fmt.Fprintln(w, "    nothing to do")
		}
		var risks []string
		for _, ti := range g.steps {
			t := play.Tasks[ti]
			s := t.Steps[g.hosts[0]]
			planStep(w, st, t, s, play.Blocks.Part(ti))
			for _, r := range s.Change.Risks {
				if !slices.Contains(risks, r) {
					risks = append(risks, r)
				}
			}
		}
		for _, r := range risks {
			indent(w, "    "+st.yellow("!")+" ", r)
		}
	}
}

// order says who goes when, and what stops the run.
func order(play rollout.PlannedPlay) string {
	if len(play.Batches) == 1 && len(play.Batches[0]) <= 1 {
		return ""
	}
	var sizes []string
	for i := 0; i < len(play.Batches); {
		n, same := len(play.Batches[i]), 0
		for ; i < len(play.Batches) && len(play.Batches[i]) == n; i++ {
			same++
		}
		if same == 1 {
			sizes = append(sizes, fmt.Sprint(n))
		} else {
			sizes = append(sizes, fmt.Sprintf("%d (%d times)", n, same))
		}
	}
	s := fmt.Sprintf("%s of %s hosts", count(len(play.Batches), "batch"), strings.Join(sizes, ", "))
	switch n := len(play.Batches[0]); {
	case len(play.Batches) == 1 && play.MaxUnavailable > 0:
		s = count(n, "host")
	case len(play.Batches) == 1:
		s = fmt.Sprintf("%d hosts at once", n)
	case len(sizes) == 1:
		s = fmt.Sprintf("%s of %s", count(len(play.Batches), "batch"), count(n, "host"))
	}
	if n := play.MaxUnavailable; n > 0 {
		s += fmt.Sprintf("; max_unavailable %d: a host begins when fewer than %d are out of service", n, n)
	}
	return s + fmt.Sprintf("; strategy %s; %s", play.Strategy, halts(play))
}

// halts says at which failures the run halts. Where max_unavailable keeps a
// window full, it does not wait for the end of the batch.
func halts(play rollout.PlannedPlay) string {
	m := play.MaxFailPercentage
	switch window := play.MaxUnavailable > 0; {
	case play.AnyErrorsFatal:
		return "any failure halts the run"
	case m == nil:
		return "the run halts when all hosts of a batch fail"
	case *m >= 100:
		return "failures do not halt the run"
	case *m == 0 && window:
		return "once a host failed no other begins, and the run halts"
	case *m == 0:
		return "the run halts after a batch in which a host failed"
	case window:
		return fmt.Sprintf("once more than %g %% of a batch failed no other host begins, and the run halts", *m)
	}
	return fmt.Sprintf("the run halts after a batch in which more than %g %% failed", *m)
}

// groups folds the hosts of a play by what is planned for them, in the order
// of the batches. Hosts with a problem are told elsewhere.
func groups(p *rollout.Plan, pi int) []*group {
	play := p.Plays[pi]
	bad := map[string]bool{}
	for _, hp := range p.Problems() {
		bad[hp.Host] = true
	}
	at := map[string]int{}
	var out []*group
	for _, b := range play.Batches {
		for _, h := range b {
			if bad[h] {
				continue
			}
			var key strings.Builder
			g := group{hosts: []string{h}}
			for ti, t := range play.Tasks {
				s, ok := t.Steps[h]
				if !ok {
					continue
				}
				if !s.Counts() {
					continue
				}
				c := s.Change
				c.Data = nil
				raw, _ := json.Marshal(c) // plain data: cannot fail
				fmt.Fprintf(&key, "%d %s", ti, raw)
				fmt.Fprintf(&key, " %q %q", s.On, s.BecomeAs)
				if s.Open != nil {
					fmt.Fprintf(&key, " %q %q %q", s.Open.Unknown, s.Open.Loop, s.Open.Judged)
				}
				key.WriteByte('\n')
				g.steps = append(g.steps, ti)
			}
			if i, ok := at[key.String()]; ok {
				out[i].hosts = append(out[i].hosts, h)
				continue
			}
			at[key.String()] = len(out)
			g.plan = key.String()
			out = append(out, &g)
		}
	}
	return foldOwn(out)
}

// foldOwn puts hosts together for which the same is planned but for their own names,
// so that three hundred of them do not fill the screen.
func foldOwn(all []*group) []*group {
	at := map[string]*group{}
	return slices.DeleteFunc(all, func(g *group) bool {
		if len(g.hosts) > 1 {
			return false // nothing in it is a host's own
		}
		key := withoutName(g.hosts[0], g.plan, nil)
		first, known := at[key]
		if !known {
			at[key] = g
			return false
		}
		first.hosts, first.own = append(first.hosts, g.hosts...), true
		return true
	})
}

// partNotes say when the tasks of a block's parts are done.
var partNotes = map[rollout.Part]string{
	rollout.InRescue: "rescue: only where a task of its block fails",
	rollout.InAlways: "always: also where a task of its block fails",
}

func planStep(w io.Writer, st Style, t rollout.PlannedTask, s rollout.PlannedStep, part rollout.Part) {
	c := s.Change
	mark := symbols[c.Action]
	switch c.Action {
	case rollout.Create, rollout.Update, rollout.Replace:
		mark = st.green(mark)
	case rollout.Delete:
		mark = st.red(mark)
	case rollout.Exec:
		mark = st.yellow(mark)
	default:
		mark = st.dim(mark)
	}
	summary := text.Printable(c.Summary)
	if t.NoLog {
		summary = strings.TrimPrefix(t.Module, builtin) + ": (hidden: no_log)"
	}
	if c.Disruptive {
		summary += "  " + st.yellow("[out of service]")
	}
	if c.Note != "" {
		summary += "  [" + text.Printable(c.Note) + "]"
	}
	fmt.Fprintf(w, "    %s %s  %s\n", mark, summary, st.dim("("+t.Name+")"))
	width := 0
	for _, f := range c.Fields {
		width = max(width, len(text.Printable(f.Name)))
	}
	for _, f := range c.Fields {
		fmt.Fprintf(w, "        %-*s  %s → %s\n", width, text.Printable(f.Name), value(f.Before), value(f.After))
	}
	for _, l := range c.Diff {
		fmt.Fprintf(w, "        %s\n", text.Printable(l))
	}
	for _, r := range c.Reasons {
		indent(w, "        "+st.dim("because")+" ", r)
	}
	if s.Open != nil && len(s.Open.Unknown) > 0 {
		what := "known after apply:"
		if s.Open.Conditional() {
			what = "done or left out as known after apply:"
		}
		indent(w, "        "+st.dim(what)+" ", strings.Join(s.Open.Unknown, "; "))
	}
	if s.Open != nil && len(s.Open.Loop) > 0 {
		items := shortList(s.Open.Loop)
		if s.Open.Pause > 0 {
			items += ", " + took(s.Open.Pause) + " apart"
		}
		indent(w, "        "+st.dim("for each of")+" ", items)
	}
	if s.Open != nil && len(s.Open.Judged) > 0 {
		indent(w, "        "+st.dim("judged by")+" ", strings.Join(s.Open.Judged, "; "))
	}
	if note, ok := partNotes[part]; ok {
		fmt.Fprintf(w, "        %s\n", st.yellow(note))
	}
	if s.Recheck != nil {
		fmt.Fprintf(w, "        %s\n", st.dim("looked at again before it is done: nobody knows what a task before it does"))
	}
	for _, note := range mannerNotes(t.Manner, s) {
		fmt.Fprintf(w, "        %s\n", st.yellow(note))
	}
}

// becomeText says whom a step becomes, and how.
func becomeText(b rollout.BecomeAs) string {
	out := "where it becomes another user:"
	for _, x := range [][2]string{{" ", b.User}, {" by ", b.Method}, {" with the program ", b.Exe}, {" with the options ", b.Flags}} {
		if x[1] != "" {
			out += x[0] + text.Printable(x[1])
		}
	}
	return out
}

// mannerNotes say how a task is done, if otherwise than others.
func mannerNotes(m rollout.Manner, s rollout.PlannedStep) (out []string) {
	for _, n := range []struct {
		is   bool
		text string
	}{
		{s.On != "", "on " + s.On + " (delegated)"},
		{s.BecomeAs != (rollout.BecomeAs{}), becomeText(s.BecomeAs)},
		{m.Ends != "", "where it is done, no task of this play behind it is"},
		{m.Once, "once: the first host of a batch that is left does it for all"},
		{m.Throttle > 0, fmt.Sprintf("throttle: %s at once", count(m.Throttle, "host"))},
		{m.Timeout > 0, "timeout: " + took(m.Timeout)},
		{m.AnyErrorsFatal, "any failure here halts the run"},
		{m.IgnoreErrors, "a failure is ignored"},
		{m.IgnoreUnreachable, "a host that cannot be reached here goes on"},
		{m.NoLog, "no_log: what it does and prints is not kept"},
	} {
		if n.is {
			out = append(out, n.text)
		}
	}
	return out
}

// shortList is the items of a loop, a long one cut short.
func shortList(items []string) string {
	const most = 10
	if n := len(items); n > most {
		return fmt.Sprintf("%s and %d more", strings.Join(items[:most], ", "), n-most)
	}
	return strings.Join(items, ", ")
}

func value(s string) string {
	if s == "" {
		return "(absent)"
	}
	return text.Printable(s)
}
