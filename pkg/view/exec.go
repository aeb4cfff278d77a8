package view

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/text"
)

// Text writes what the command printed on the hosts, equal outputs as one block,
// in Ansible's form ("hosts | CHANGED | rc=0 >>"), and the hosts that could not be
// reached grouped by cause. The hosts are in the order in which they are shown.
func (x *ExecResults) Text(w io.Writer, st Style, hosts []string) error {
	var errs []error
	var blocks []*execResult
	members := map[*execResult][]string{}
	for _, h := range hosts {
		r := x.hosts[h]
		if r.err != nil {
			errs = append(errs, r.err)
			continue
		}
		b := x.blocks[r.key]
		if members[b] == nil {
			blocks = append(blocks, b)
		}
		members[b] = append(members[b], h)
	}
	for _, b := range blocks {
		word := st.green("CHANGED")
		if b.key.status != 0 {
			word = st.red("FAILED")
		}
		rc := fmt.Sprintf("rc=%d", b.key.status)
		if b.key.signal != "" {
			rc = "signal=" + b.key.signal
		}
		fmt.Fprintf(w, "%s | %s | %s >>\n", st.bold(hostNames(members[b])), word, rc)
		for _, text := range []stored{b.stdout, b.stderr} {
			if text := x.load(text); len(text) > 0 {
				indent(w, "", string(text))
			}
		}
		if b.key.truncated {
			fmt.Fprintln(w, st.dim("(the middle of a longer output was left out)"))
		}
		if b.key.unfinished {
			fmt.Fprintln(w, st.dim("(a process that the command left behind still had the output: what it printed later is not here)"))
		}
	}
	if len(errs) > 0 {
		fmt.Fprintln(w, text.Printable(FormatErrors(errs)))
	}
	return x.failure()
}

// execRow is one host of `exec -o json`.
type execRow struct {
	Host       string  `json:"host"`
	RC         *int    `json:"rc,omitempty"`
	Signal     string  `json:"signal,omitempty"`
	Stdout     string  `json:"stdout"`
	Stderr     string  `json:"stderr"`
	Truncated  bool    `json:"truncated,omitempty"`
	Unfinished bool    `json:"unfinished,omitempty"`
	Seconds    float64 `json:"seconds"`
	Error      string  `json:"error,omitempty"`
	Hint       string  `json:"hint,omitempty"`
}

// JSON writes the results as JSON lines, one per host.
func (x *ExecResults) JSON(w io.Writer, hosts []string) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, h := range hosts {
		r := x.hosts[h]
		b := x.blocks[r.key]
		row := execRow{Host: h, Signal: r.key.signal, Stdout: string(x.load(b.stdout)), Stderr: string(x.load(b.stderr)),
			Truncated: r.key.truncated, Unfinished: r.key.unfinished, Seconds: r.took.Seconds()}
		if r.err != nil {
			row.Error, row.Hint = r.err.Error(), sshexec.HintOf(r.err)
		} else {
			row.RC = &r.key.status
		}
		if err := enc.Encode(row); err != nil {
			return err
		}
	}
	return x.failure()
}
