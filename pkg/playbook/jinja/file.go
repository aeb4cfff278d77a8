package jinja

import "strings"

// FileOptions say how a template that is a file of its own is read. Unlike in a
// playbook, a backslash in a string of {{ }} escapes as in Python.
type FileOptions struct {
	// TrimBlocks drops the newline behind a block or a comment, LstripBlocks the
	// blanks before one at the beginning of a line.
	TrimBlocks, LstripBlocks bool
	// Newline ends the lines that it prints.
	Newline string
}

// File is a template that is a file of its own.
type File struct {
	t       *Template
	newline string
	ends    int // newlines at the end of the source
}

// ParseFile parses a file. Offsets in errors count in NormalNewlines(src).
func ParseFile(src string, o FileOptions) (*File, error) {
	normal := NormalNewlines(src)
	toks, err := lexTemplate(strings.TrimSuffix(normal, "\n"), &o)
	if err != nil {
		return nil, err
	}
	if o.Newline != "\n" {
		for i := range toks {
			if toks[i].kind == tData {
				toks[i].text = strings.ReplaceAll(toks[i].text, "\n", o.Newline)
			}
		}
	}
	p := &parser{toks: toks}
	parts, _, err := p.body()
	if err != nil {
		return nil, err
	}
	return &File{&Template{"", parts}, o.Newline, trailingNewlines(src)}, nil
}

// NormalNewlines has \n for every end of a line, as Jinja reads a template.
func NormalNewlines(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
}

// Render is the text that the file prints, with as many newlines at its end as the
// source has at least.
func (f *File) Render(s Scope) (string, error) {
	out, err := f.t.Render(s)
	if err != nil {
		return "", err
	}
	if missing := f.ends - trailingNewlines(out); missing > 0 {
		out += strings.Repeat(f.newline, missing)
	}
	return out, nil
}

// lstripped is data without the blanks that stand between the beginning of a line
// and the block or comment at next.
func (l *lexer) lstripped(data string, next int) string {
	if l.file == nil || !l.file.LstripBlocks || next >= len(l.src) || l.src[next+1] == '{' || strings.HasPrefix(l.src[next+2:], "+") {
		return data
	}
	kept := strings.TrimRight(data, " \t")
	if kept == "" && (next == len(data) || l.src[next-len(data)-1] == '\n') || strings.HasSuffix(kept, "\n") {
		return kept
	}
	return data
}
