package view

import (
	"cmp"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/fleetd/fleetd/pkg/compliance"
	"github.com/fleetd/fleetd/pkg/text"
)

// ComplianceDiff writes what has changed between two reports.
func ComplianceDiff(w io.Writer, st Style, d *compliance.Diff) {
	fmt.Fprintf(w, "%s  from %s (%s) to %s (%s)\n", st.bold("fleetd compliance diff"), d.From, Stamp(d.FromAt), d.To, Stamp(d.ToAt))
	if len(d.Changes) == 0 {
		fmt.Fprintf(w, "\n%s\n", st.green("Nothing has changed."))
		return
	}
	title := ""
	worse, better := 0, 0
	for _, c := range d.Changes {
		t, paint := changeTitle(st, c.Is)
		if t != title {
			title = t
			fmt.Fprintf(w, "\n%s\n", paint(t))
		}
		switch c.Is {
		case compliance.Drift, compliance.Unknown:
			worse += len(c.Hosts)
		default:
			better += len(c.Hosts)
		}
		name := "whether it can be read"
		if c.Policy == compliance.PlaybookPolicy {
			name = c.Rule
		} else if c.Policy != "" {
			name = c.Policy + " (" + c.Rule + ")"
		}
		fmt.Fprintf(w, "  %s: %s, was %s\n", text.Printable(hostNames(c.Hosts)), text.Printable(name), cmp.Or(string(c.Was), "not asked"))
		if c.Text != "" {
			indent(w, "      ", c.Text)
		}
	}
	fmt.Fprintf(w, "\n%d became worse, %d became better or are over.\n", worse, better)
}

func changeTitle(st Style, s compliance.Status) (string, func(string) string) {
	switch s {
	case compliance.Compliant:
		return "Mended", st.green
	case "":
		return "Not asked any more", st.bold
	}
	return statusTitles[s], statusStyle(st, s)
}

// Stamp is a time to the minute, in UTC.
func Stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// Reported is one report in a list.
type Reported struct {
	ID string    `json:"id"`
	At time.Time `json:"at"`
	// Of is what was looked at.
	Of     string            `json:"of"`
	Status compliance.Status `json:"status"`
	Hosts  int               `json:"hosts"`
}

// ComplianceHistory writes a list of reports as a table.
func ComplianceHistory(w io.Writer, rows []Reported) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "No reports yet.")
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "REPORT\tAT\tSTATUS\tHOSTS\tOF")
	for _, r := range rows {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%d\t%s\n", r.ID, Stamp(r.At), r.Status, r.Hosts, text.Printable(r.Of))
	}
	return tw.Flush()
}
