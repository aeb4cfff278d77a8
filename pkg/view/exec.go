package view

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/fleetd/fleetd/pkg/sshexec"
)

// Exec writes what a command printed on many hosts, equal outputs as one
// block, in Ansible's form ("hosts | CHANGED | rc=0 >>"), and the hosts that
// could not be reached grouped by cause.
func Exec(w io.Writer, st Style, results []sshexec.HostResult) error {
	var errs []error
	var ran []sshexec.HostResult
	for _, r := range results {
		if r.Err != nil {
			errs = append(errs, r.Err)
		} else {
			ran = append(ran, r)
		}
	}
	for _, b := range sshexec.FoldResults(ran) {
		word := st.green("CHANGED")
		if b.Result.ExitStatus != 0 {
			word = st.red("FAILED")
		}
		rc := fmt.Sprintf("rc=%d", b.Result.ExitStatus)
		if b.Result.Signal != "" {
			rc = "signal=" + b.Result.Signal
		}
		fmt.Fprintf(w, "%s | %s | %s >>\n", st.bold(hostNames(b.Hosts)), word, rc)
		for _, text := range [][]byte{b.Result.Stdout, b.Result.Stderr} {
			if len(text) > 0 {
				indent(w, "", string(text))
			}
		}
		if b.Result.Truncated {
			fmt.Fprintln(w, st.dim("(the middle of a longer output was left out)"))
		}
		if b.Result.Unfinished {
			fmt.Fprintln(w, st.dim("(a process that the command left behind still had the output: what it printed later is not here)"))
		}
	}
	if len(errs) > 0 {
		fmt.Fprintln(w, sshexec.Printable(sshexec.FormatErrors(errs)))
	}
	return nil
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

// ExecJSON writes the results as JSON lines, one per host.
func ExecJSON(w io.Writer, results []sshexec.HostResult) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, r := range results {
		row := execRow{Host: r.Host, Signal: r.Result.Signal, Stdout: string(r.Result.Stdout), Stderr: string(r.Result.Stderr),
			Truncated: r.Result.Truncated, Unfinished: r.Result.Unfinished, Seconds: r.Result.Duration.Seconds()}
		if r.Err != nil {
			row.Error, row.Hint = r.Err.Error(), sshexec.HintOf(r.Err)
		} else {
			row.RC = &r.Result.ExitStatus
		}
		if err := enc.Encode(row); err != nil {
			return err
		}
	}
	return nil
}
