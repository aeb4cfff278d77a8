package compliance

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
)

// The elements and attributes are those that Jenkins' junit plugin and GitLab's test
// reports read: a suite for each rule of a policy, a case for each host.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Skipped  int          `xml:"skipped,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name      string      `xml:"name,attr"`
		Timestamp string      `xml:"timestamp,attr"`
		Tests     int         `xml:"tests,attr"`
		Failures  int         `xml:"failures,attr"`
		Errors    int         `xml:"errors,attr"`
		Skipped   int         `xml:"skipped,attr"`
		Cases     []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string      `xml:"classname,attr"`
		Name    string      `xml:"name,attr"`
		Failure *junitWrong `xml:"failure"`
		Error   *junitWrong `xml:"error"`
		Skipped *junitWrong `xml:"skipped"`
	}
	junitWrong struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr,omitempty"`
		Text    string `xml:",chardata"`
	}
)

// readable is the suite of the hosts themselves: whether they could be read.
const readable = "the host can be read"

// JUnit writes the report as JUnit XML: drift is a failure, what is not known an
// error, what is waived skipped.
func JUnit(w io.Writer, r *Report) error {
	all := junitSuites{Name: "fleetd compliance"}
	at := map[string]int{}
	suite := func(name string) *junitSuite {
		i, known := at[name]
		if !known {
			i = len(all.Suites)
			at[name] = i
			all.Suites = append(all.Suites, junitSuite{Name: name, Timestamp: r.At.UTC().Format("2006-01-02T15:04:05")})
		}
		return &all.Suites[i]
	}
	for _, h := range r.Hosts {
		c := junitCase{Name: h.Name}
		if h.Problem != nil {
			c.Error = &junitWrong{h.Problem.Message, string(Unknown), withHint(h.Problem.Message, h.Problem.Hint)}
		}
		suite(readable).add(c)
		for _, f := range h.Findings {
			c := junitCase{Name: h.Name}
			wrong := &junitWrong{f.Said(), string(f.Status), r.told(f)}
			switch f.Status {
			case Drift:
				c.Failure = wrong
			case Unknown:
				c.Error = wrong
			case Waived:
				c.Skipped = &junitWrong{Message: wrong.Message + "; " + f.Waiver.String()}
			}
			suite(f.Policy + " / " + f.Rule).add(c)
		}
	}
	for _, s := range all.Suites {
		all.Tests, all.Failures, all.Errors, all.Skipped = all.Tests+s.Tests, all.Failures+s.Failures, all.Errors+s.Errors, all.Skipped+s.Skipped
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (s *junitSuite) add(c junitCase) {
	c.Class = s.Name
	s.Cases = append(s.Cases, c)
	s.Tests++
	switch {
	case c.Failure != nil:
		s.Failures++
	case c.Error != nil:
		s.Errors++
	case c.Skipped != nil:
		s.Skipped++
	}
}

// told is all that the report knows of a finding, in lines.
func (r *Report) told(f Finding) string {
	lines := []string{f.Text}
	for _, d := range f.Fields {
		lines = append(lines, d.String())
	}
	if f.Since != nil {
		lines = append(lines, "since "+f.Since.UTC().Format(time.RFC3339))
	}
	if f.Waiver != nil {
		lines = append(lines, f.Waiver.String())
	}
	for _, s := range []string{f.Hint, r.Policy(f.Policy).Fix} {
		if s != "" {
			lines = append(lines, s)
		}
	}
	return strings.Join(lines, "\n")
}

func withHint(message, hint string) string { return strings.TrimSpace(message + "\n" + hint) }

// String says who answers for what, and until when.
func (w *Waiver) String() string {
	until := "until"
	if w.Expired {
		until = "expired on"
	}
	return fmt.Sprintf("waived by %s %s %s: %s", w.Owner, until, w.Expires.Format(time.DateOnly), w.Reason)
}
