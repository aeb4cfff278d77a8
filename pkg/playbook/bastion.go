package playbook

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"unicode/utf8"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/words"
)

// bastionFile is a file that a task of an open step takes from the bastion: the
// plan has its content.
type bastionFile struct {
	Path   string `json:"path"`
	Mode   string `json:"mode"`
	Digest string `json:"content"`
}

// ofBastion reports whether a parameter names a file of the bastion.
func ofBastion(p rollout.Param) bool {
	return p.Type == rollout.File || p.Type == rollout.Template
}

// onNode reports whether the task says that the file is one of the node. It is an
// error if only the run tells.
func (t *taskRun) onNode(c *compiler, p rollout.Param, s jinja.Scope) (bool, error) {
	for _, other := range t.params {
		if p.Remote == "" || other.name != p.Remote {
			continue
		}
		v, err := argument(c.cache, other.value, t.spec.of(p.Remote), s)
		if err != nil {
			return false, err
		}
		b, _ := v.(bool)
		return b, nil
	}
	return false, nil
}

// source is the value of a parameter that names a file. The error is one that
// unknown knows where a template in the file needs a result of the run.
func (t *taskRun) source(c *compiler, p param, spec rollout.Param, s jinja.Scope) (any, error) {
	name, err := argument(c.cache, p.value, rollout.Param{Type: rollout.String}, s)
	if err != nil {
		return nil, err
	}
	text, ok := name.(string)
	if remote, err := t.onNode(c, spec, s); err != nil || remote || !ok {
		return name, err
	}
	text, args, err := named(spec, text)
	if err != nil {
		return nil, err
	}
	file, err := c.find(t, spec, text)
	if err != nil {
		return nil, err
	}
	file.Args = args
	if spec.Type == rollout.File {
		return file, nil
	}
	options := map[string]any{}
	for _, other := range t.params {
		if v, err := argument(c.cache, other.value, t.spec.of(other.name), s); err == nil && !ofBastion(t.spec.of(other.name)) {
			options[other.name] = v
		}
	}
	return rendered(file, options, s)
}

// named is the name of the file in a value, and what stands behind it on a line.
func named(spec rollout.Param, v string) (name, args string, err error) {
	if !spec.Line {
		return v, "", nil
	}
	all := words.Split(v)
	if len(all) == 0 {
		return "", "", errors.New("names no file")
	}
	found, err := words.Shell(nil, all[0], false)
	if err != nil || len(found) != 1 {
		return "", "", fmt.Errorf("the name of the file in %q cannot be read", v)
	}
	return found[0].Text, words.Join(all[1:]), nil
}

// rendered is the file with what its template prints for content. options are the
// other arguments of the task.
func rendered(file rollout.LocalFile, options map[string]any, s jinja.Scope) (rollout.LocalFile, error) {
	tmpl, err := parsedFile(file, options)
	if err != nil {
		return file, err
	}
	out, err := tmpl.Render(fileScope{s, file, options})
	if err != nil {
		return file, inFile(file, err)
	}
	if len(out) > rollout.MostContent {
		return file, fmt.Errorf("%s makes a text of %d bytes, and %d MiB are the most that a plan holds of a file", file.Path, len(out), rollout.MostContent>>20)
	}
	file.Content = []byte(out)
	return file, nil
}

func parsedFile(file rollout.LocalFile, options map[string]any) (*jinja.File, error) {
	if !utf8.Valid(file.Content) {
		return nil, fmt.Errorf("%s is no UTF-8, and templates are", file.Path)
	}
	o, err := fileOptions(options)
	if err != nil {
		return nil, err
	}
	tmpl, err := jinja.ParseFile(string(file.Content), o)
	if err != nil {
		return nil, inFile(file, err)
	}
	return tmpl, nil
}

// fileOptions are those of a template, which the task's other arguments set.
func fileOptions(options map[string]any) (jinja.FileOptions, error) {
	o := jinja.FileOptions{TrimBlocks: true, Newline: "\n"}
	if b, ok := options[rollout.TrimBlocks].(bool); ok {
		o.TrimBlocks = b
	}
	if b, ok := options[rollout.LstripBlocks].(bool); ok {
		o.LstripBlocks = b
	}
	if n, ok := options[rollout.NewlineSequence].(string); ok {
		o.Newline = strings.NewReplacer(`\r`, "\r", `\n`, "\n").Replace(n)
	}
	switch o.Newline {
	case "\n", "\r", "\r\n":
		return o, nil
	}
	return o, fmt.Errorf("%s needs to be one of \\n, \\r or \\r\\n", rollout.NewlineSequence)
}

// fileError is what is wrong with a file that a task names.
type fileError struct {
	place text.Place
	err   error
}

func (e *fileError) Error() string { return e.place.String() + ": " + e.err.Error() }
func (e *fileError) Unwrap() error { return e.err }

// inFile places an error of a template in its file.
func inFile(file rollout.LocalFile, err error) error {
	var je *jinja.Error
	if !errors.As(err, &je) {
		return fmt.Errorf("%s: %w", file.Path, err)
	}
	before := jinja.NormalNewlines(string(file.Content))
	before = before[:min(je.Offset, len(before))]
	line := before[strings.LastIndexByte(before, '\n')+1:]
	return &fileError{text.Place{File: file.Path, Line: strings.Count(before, "\n") + 1, Column: utf8.RuneCountInString(line) + 1}, err}
}

// fileScope has the variables that a template finds besides those of its task.
type fileScope struct {
	jinja.Scope
	file    rollout.LocalFile
	options map[string]any
}

func (s fileScope) Lookup(name string) (any, bool, error) {
	switch name {
	case "ansible_managed":
		if v, ok, err := s.Scope.Lookup(name); ok || err != nil {
			return v, ok, err
		}
		return "Ansible managed", true, nil
	case "template_path":
		return s.file.Name, true, nil
	case "template_fullpath":
		return s.file.Path, true, nil
	case "template_destpath":
		return s.options["dest"], true, nil
	}
	return s.Scope.Lookup(name)
}

// keepFiles keeps the files that an open step may take from the bastion: for a loop
// those of all items.
func (t *taskRun) keepFiles(k *keeper, out *rollout.Open, host *scope) *Error {
	for _, p := range t.params {
		spec := t.spec.of(p.name)
		if !ofBastion(spec) {
			continue
		}
		for _, s := range t.loop.rounds(k.step, host) {
			if remote, err := t.onNode(s.c, spec, s); err != nil || remote {
				if err != nil {
					return t.badValue(p, spec, fmt.Errorf("cannot be kept for the run: %w", err))
				}
				continue
			}
			name, err := argument(s.c.cache, p.value, rollout.Param{Type: rollout.String}, s)
			if line, isText := p.value.(string); unknown(err) && spec.Line && isText {
				// What stands behind the name may depend on a result.
				if first, _, ok := strings.Cut(line, " "); ok && !jinja.MaybeTemplate(first) {
					name, err = first, nil
				}
			}
			if unknown(err) {
				return t.badValue(p, spec, errors.New("depends on a result of the run: which file is taken must be known when the plan is made"))
			}
			src, isText := name.(string)
			if err == nil && !isText {
				continue // it is not given
			}
			var file rollout.LocalFile
			if err == nil {
				src, _, err = named(spec, src)
			}
			if err == nil {
				file, err = s.c.find(t, spec, src)
			}
			if err == nil && file.Dir {
				err = fmt.Errorf("%s is a folder, and how it is copied cannot depend on a result of the run; only whether it is can", src)
			}
			if err != nil {
				return t.fileWrong(p, spec, err)
			}
			t.keepFile(k, out, src, spec, file)
		}
	}
	return nil
}

func (t *taskRun) keepFile(k *keeper, out *rollout.Open, name string, spec rollout.Param, file rollout.LocalFile) {
	if k.step.Files == nil {
		k.step.Files = map[string]bastionFile{}
	}
	digest := rollout.DigestOf(file.Content)
	k.step.Files[name] = bastionFile{Path: file.Path, Mode: file.Mode, Digest: digest}
	out.Hold(digest, file.Content)
	if spec.Type == rollout.Template {
		if w, err := jinja.WordsOfFile(string(file.Content), jinja.FileOptions{TrimBlocks: true}); err == nil {
			k.words(w)
		}
	}
}

// rounds are the variables as each item of the loop sees them; without a loop, or
// where only the run tells its items, those of the host.
func (p *loop) rounds(step *openStep, host *scope) []*scope {
	if p == nil {
		return []*scope{host}
	}
	if len(step.Loop.Value) > 0 {
		return []*scope{p.within(host)}
	}
	var out []*scope
	for n, raw := range step.Loop.Items {
		s := *host
		s.done = map[string]any{}
		if v, err := jinja.FromJSON(raw); err == nil { // JSON of our own
			s.done[p.item] = v
		}
		if p.index != "" {
			s.done[p.index] = int64(n)
		}
		if len(s.unknown) > 0 {
			s.unknown = maps.Clone(s.unknown)
			delete(s.unknown, p.item)
			delete(s.unknown, p.index)
		}
		out = append(out, &s)
	}
	return out
}

// fileWrong is an error about a file that a parameter names.
func (t *taskRun) fileWrong(p param, spec rollout.Param, err error) *Error {
	e := t.src.errorAt(p.val, "%s: parameter %q: %v", t.module.name, p.name, err).hint("%s", spec.Help)
	if inner := jinja.Position(err); inner != nil && inner.Hint != "" {
		e.Hint = inner.Hint
	}
	return e
}

// source is the value of such a parameter in the run.
func (o *OpenSteps) source(step openStep, open rollout.Open, raw any, spec rollout.Param, args rollout.Args, s *runScope) (any, error) {
	name, err := argument(o.cache, raw, rollout.Param{Type: rollout.String}, s)
	if err != nil {
		return nil, err
	}
	text, ok := name.(string)
	if remote, _ := args[spec.Remote].(bool); remote || !ok {
		return name, nil
	}
	text, rest, err := named(spec, text)
	if err != nil {
		return nil, err
	}
	kept, ok := step.Files[text]
	content, have := open.Contents[kept.Digest]
	if !ok || !have {
		return nil, fmt.Errorf("the plan does not hold the file %q", text)
	}
	file := rollout.LocalFile{Name: text, Path: kept.Path, Mode: kept.Mode, Content: content, Args: rest}
	if spec.Type == rollout.File {
		return file, nil
	}
	return rendered(file, args, s)
}
