package yaml

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	yaml4 "go.yaml.in/yaml/v4"

	"github.com/fleetd/fleetd/pkg/text"
)

// cause is what a message of yaml.v3 means, and what would be right.
type cause struct {
	contains, message, hint string
	// parser is set for what the parser finds, not the scanner: yaml/v4 counts
	// its lines from 0, those of the scanner from 1.
	parser bool
}

const (
	quoteHint  = "Put the whole value in quotes."
	tagHint    = "A value that starts with ! must be quoted."
	indentHint = "Check the indentation of this line and of the one above."
)

var causes = []cause{
	{"mapping values are not allowed", "a colon followed by a blank cannot stand here", "If the colon belongs to the value, put the value in quotes; else check the indentation of this line and the one above.", false},
	{"block sequence entries are not allowed", "a list cannot start here", "Start the list on a line of its own; a value that starts with \"- \" must be quoted.", false},
	{"mapping keys are not allowed", "a key cannot start here", "Put the value in quotes.", false},
	{"could not find expected ':'", "this is no key: the colon is missing", "Write key: value; a text over several lines must be quoted, or start with | or >.", false},
	{"found character that cannot start any token", "this character cannot start a value", quoteHint, false},
	{"found a tab character", "a tab cannot indent YAML", "Indent with spaces.", false},
	{"found unknown escape character", "this escape is not known", "Write the backslash twice, or use single quotes.", false},
	{"did not find expected hex", "hexadecimal digits are missing in this escape", "Write the backslash twice, or use single quotes.", false},
	{"found invalid Unicode character escape code", "this escape names no character", "Write the backslash twice, or use single quotes.", false},
	{"found unexpected end of stream", "the quote is not closed", "Close it, or take the opening quote away.", false},
	{"found unexpected document indicator", "the quote is not closed before the document ends", "Close it, or take the opening quote away.", false},
	{"indentation indicator equal to 0", "the indentation after | or > cannot be 0", "Write | or >, and indent the text below it.", false},
	{"did not find expected comment or line break", "nothing may stand behind | or > on its line", "Put the text on the lines below it.", false},
	{"found unexpected non-alphabetical character", "this directive is not known", "Take the line away; if the % belongs to a value, put it in quotes.", false},
	{"found unknown directive name", "this directive is not known", "Take the line away; if the % belongs to a value, put it in quotes.", false},
	{"found incompatible YAML document", "this YAML version is not supported, only 1.1 is", "Take the line away, or write %YAML 1.1.", true},
	{"found undefined tag handle", "the tag's handle is not known", tagHint, true},
	{"did not find expected alphabetic or numeric character", "& or * is not followed by a name", "A value that starts with & or * must be quoted.", false},
	{"did not find expected tag URI", "the tag has no name", tagHint, false},
	{"did not find expected '!'", "the tag is not complete", tagHint, false},
	{"did not find the expected '>'", "the tag is not closed by >", tagHint, false},
	{"did not find expected whitespace or line break", "a blank is missing after the tag", tagHint, false},
	{"URI escaped octet", "the tag has a broken % escape", tagHint, false},
	{"UTF-8 octet", "the tag has a broken % escape", tagHint, false},
	{"did not find expected ',' or ']'", "a comma or ] is missing here", "Close what was opened, and put a comma between items.", true},
	{"did not find expected ',' or '}'", "a comma or } is missing here", "Close what was opened, and put a comma between items; a template in braces must be quoted: \"{{ name }}\".", true},
	{"did not find expected '-' indicator", "a dash is expected here: the lines above are a list", indentHint, true},
	{"did not find expected <document start>", "the document ends above this line", indentHint, true},
	{"did not find expected key", "a key is expected here", indentHint, true},
	{"did not find expected node content", "a value is missing here", quoteHint, true},
	{"control characters are not allowed", "control characters are not allowed", "Take it out, or write it as an escape in double quotes: \"\\x07\".", false},
	{"exceeded max depth", "values are nested too deeply", deepHint, false},
	{"directive", "this directive is not well-formed", "Take the line away; if the % belongs to a value, put it in quotes.", false},
	{"version number", "this directive is not well-formed", "Take the line away, or write %YAML 1.1.", false},
}

// unknownAnchor names an anchor out of the text.
var unknownAnchor = regexp.MustCompile(`unknown anchor '([^']*)' referenced`)

var (
	// mark is the last place in a message of yaml/v4, before the cause.
	mark = regexp.MustCompile(`^.*\bline (\d+)(?:, column (\d+))?: `)
	// start is where that begins which is not complete: a quote that is not
	// closed, a key without its colon, a directive.
	start = regexp.MustCompile(`while scanning a (?:quoted scalar|simple key|directive) at line (\d+)(?:, column (\d+))?: .*(?:end of stream|document indicator|':'|directive name|non-alphabetical character)`)
	// lineOnly is the place in a message of yaml.v3.
	lineOnly = regexp.MustCompile(`^yaml: line (\d+): `)
)

// syntaxError says what yaml.v3 found in data, which is src's or as wide, and
// where.
func syntaxError(src *text.Source, data string, err error) error {
	message, again := err.Error(), readAgain(data)
	if m := unknownAnchor.FindStringSubmatch(message); m != nil {
		line, column := src.Offset(max(0, strings.Index(src.Data, "*"+m[1])))
		// yaml/v4 points behind the * of an alias.
		if at := mark.FindStringSubmatch(again); at != nil && strings.HasSuffix(again, m[0]) {
			line, column = number(at[1])-1, max(number(at[2])-1, 1)
		}
		return src.Errorf(line, column, AliasHint, "there is no anchor &%s above", src.Clip(m[1]))
	}
	c := cause{message: "this is not valid YAML", hint: indentHint}
	if i := slices.IndexFunc(causes, func(c cause) bool { return strings.Contains(message, c.contains) }); i >= 0 {
		c = causes[i]
	}
	if m := opened.FindStringSubmatch(again); m != nil {
		c.message += fmt.Sprintf(", %s was opened in line %s", map[string]string{"sequence": "[", "mapping": "{"}[m[1]], m[2])
	}
	line, column := place(src, message, again, c)
	switch text := src.Line(line); {
	case strings.HasPrefix(text, "\t") && column == 1:
		c.message, c.hint = "a tab cannot indent YAML", "Indent with spaces."
	case strings.Contains(text, ": {{"):
		c.hint = "A value that starts with {{ must be quoted as a whole: \"{{ name }}\"."
	}
	return src.Errorf(line, column, c.hint, "%s", c.message)
}

// opened is where a list or dictionary begins that is not closed.
var opened = regexp.MustCompile(`while parsing a flow (sequence|mapping) at line (\d+)`)

// place is where the text is wrong. yaml.v3 tells a line at most; its successor,
// where it finds the same, tells the column.
func place(src *text.Source, message, again string, c cause) (line, column int) {
	if i := strings.IndexFunc(src.Data, forbidden); i >= 0 && strings.Contains(message, "control characters") {
		return src.Offset(i)
	}
	m := start.FindStringSubmatch(again)
	if m == nil {
		m = mark.FindStringSubmatch(again)
	}
	if m != nil && strings.Contains(again, c.contains) {
		line, column = number(m[1]), number(m[2])
		if !c.parser {
			line-- // for the one that readAgain puts before the text
		}
	} else {
		line = 1
		if m = lineOnly.FindStringSubmatch(message); m != nil {
			line = number(m[1])
			if c.parser {
				line++
			}
		}
		shown := src.Line(line)
		column = 1 + len(shown) - len(strings.TrimLeft(shown, " \t"))
	}
	// What is missing at the end is missing behind the last text.
	text := strings.TrimRight(src.Data, " \t\r\n")
	if last := 1 + strings.Count(text, "\n"); line > last {
		return src.Offset(len(text))
	}
	return max(line, 1), max(column, 1)
}

// number is a line or column of a message, 0 where it has none.
func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// readAgain is the error of yaml/v4, the text one line further down: of the first
// line it does not tell the place.
func readAgain(data string) (message string) {
	defer func() {
		if p := recover(); p != nil { // as yaml.v3 may; then there is no place
			message = ""
		}
	}()
	dec := yaml4.NewDecoder(strings.NewReader("\n" + data))
	for {
		var n yaml4.Node
		switch err := dec.Decode(&n); {
		case errors.Is(err, io.EOF):
			return ""
		case err != nil:
			return err.Error()
		}
	}
}

// forbidden finds the characters that YAML does not let pass (PyYAML's
// NON_PRINTABLE).
func forbidden(r rune) bool {
	switch {
	case r == '\t', r == '\n', r == '\r', r == 0x85, r >= ' ' && r <= '~', r >= 0xa0 && r <= 0xd7ff, r >= 0xe000 && r <= 0xfffd && r != 0xfeff, r >= 0x10000:
		return false
	}
	return true
}
