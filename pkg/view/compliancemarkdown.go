package view

import (
	"fmt"
	"io"
	"strings"

	"github.com/fleetd/fleetd/pkg/compliance"
)

// ComplianceMarkdown writes the report for a ticket or a wiki, in the tables of
// GitHub's Markdown.
func ComplianceMarkdown(w io.Writer, r *compliance.Report) error {
	p := reportPageOf(r)
	var b strings.Builder
	plain := func(s string) string { return s }
	fmt.Fprintf(&b, "# %s\n\n%s\n\n%s, %s\n", md("Compliance: "+p.Word), md(verdict(r, plain)+"."), md(p.Of), p.At)
	for _, s := range p.Troubles {
		fmt.Fprintf(&b, "\n## %s\n", s.Title)
		for _, t := range s.Troubles {
			fmt.Fprintf(&b, "\n### %s\n\n%s", md(t.Name), md(t.Kind))
			if t.Said != "" {
				fmt.Fprintf(&b, ": %s", md(t.Said))
			}
			b.WriteString("\n")
			markdownRows(&b, t.Rows)
			if t.Fix != "" {
				fmt.Fprintf(&b, "\nMended by: %s\n", md(t.Fix))
			}
		}
	}
	if len(p.Unreadable) > 0 {
		b.WriteString("\n## Not judged, or not all of it\n")
		markdownRows(&b, p.Unreadable)
	}
	if len(p.Notes) > 0 {
		b.WriteString("\n## Waivers\n\n")
		for _, n := range p.Notes {
			fmt.Fprintf(&b, "- %s\n", md(n))
		}
	}
	b.WriteString("\n## Policies\n\n| Policy | Rule | Severity | Hosts |\n|---|---|---|---|\n")
	for _, row := range p.Policies {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", md(row.Name), md(row.Rule), row.Severity, row.Counts)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func markdownRows(b *strings.Builder, rows []pageRow) {
	b.WriteString("\n| Hosts | What | Since |\n|---|---|---|\n")
	for _, row := range rows {
		hosts := md(row.Hosts)
		if row.Count != "" {
			hosts += " (" + row.Count + ")"
		}
		var lines []string
		for _, l := range row.Lines {
			lines = append(lines, md(l))
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", hosts, strings.Join(lines, "<br>"), row.Since)
	}
}

// md is a text in which nothing means anything to Markdown, on one line: a host's name
// must not become a link, nor a picture that is fetched.
func md(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n':
			b.WriteString("<br>")
		case r == '&':
			b.WriteString("&amp;")
		case r == '<':
			b.WriteString("&lt;")
		case r == '>':
			b.WriteString("&gt;")
		case strings.ContainsRune("\\`*_{}[]()#+!|~", r):
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '@': // nobody is to be mentioned
			b.WriteString("&#64;")
		default:
			b.WriteRune(r)
		}
	}
	return strings.ReplaceAll(b.String(), "://", "&#58;//") // nor made a link by itself
}
