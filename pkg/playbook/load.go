package playbook

import (
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
	"github.com/fleetd/fleetd/pkg/yaml"
)

// Options say how a playbook is read.
type Options struct {
	// Dir is the path of the file system's root on the machine, "/" for
	// os.DirFS("/"). It stands before file names in errors, and lets absolute
	// paths be imported.
	Dir string
	// WorkDir, a path within the file system, shortens file names in errors and
	// warnings that lie below it.
	WorkDir string
	// Modules, if given, are checked at once, so that a playbook with a wrong
	// keyword and a wrong module is told of both. Compile checks them in any case.
	Modules map[string]rollout.Params
}

// Playbook is a playbook and all that it imports, read and checked.
type Playbook struct {
	plays    []*play
	cache    *jinja.Cache
	warnings []text.Warning
	files    map[string]string // name → SHA-256
	load     *loader
}

// field is a value in a file.
type field struct {
	src  *source
	node *yaml.Node
}

func (f *field) errorAt(format string, a ...any) *Error {
	return f.src.errorAt(f.node, format, a...)
}

type play struct {
	field
	name  *field
	hosts *field
	// vars are the layers of variables, those that win first, and fileVars those
	// of vars_files, which win over them.
	vars, fileVars []layer

	serial, strategy, order, maxFail *field
	// inherited is what its tasks take over.
	inherited inherit

	tasks []*task
}

// layer are variables and the mapping that they stand in.
type layer struct {
	field
	values *value.Map
}

// task is a task with all that it inherits from blocks and imports.
type task struct {
	field
	inherit
	name *field
	// module is the key that is no keyword.
	module *entry
	args   *field
	params []param
	// register is the variable that takes the result; "" = none.
	register                       string
	changedWhen, failedWhen, until []*field
	retries, delay                 *field
	// loop is nil for a task that is done once.
	loop *loop
	// notify are the handlers that a change calls; listen are the words by which a
	// handler is called besides its name.
	notify, listen []string
	// flush is set for meta: flush_handlers, which is no task of its own; ends is what
	// another meta brings to its end.
	flush bool
	ends  rollout.Ends
	// called is set for a handler where it stands among the tasks: the words that
	// call it, and its number among the play's handlers, from 1.
	called  []string
	handler int
}

// param is a parameter as it is written.
type param struct {
	src *source
	entry
	value any
}

// loader reads the files of one playbook.
type loader struct {
	fsys  fs.FS
	opts  Options
	cache *jinja.Cache
	report
	// open are the files that are being read, to find those that import themselves.
	open []string
	// bytes are the files that were read, by path.
	bytes map[string][]byte
	// files counts, so that two files importing many others cannot go on for ever.
	files int
	// top is the playbook itself.
	top string
}

const maxFiles = 1000

// Load reads the playbook at a path within fsys, and all that it imports. The
// error holds every *Error that was found, as a *multierror.Error.
func Load(fsys fs.FS, name string, opts Options) (*Playbook, error) {
	l := &loader{fsys: fsys, opts: opts, cache: newCache(), bytes: map[string][]byte{}}
	p := &Playbook{cache: l.cache}
	if name = l.clean(name); name != "" {
		l.top = name
		p.plays = l.playbook(name, nil)
	}
	if len(p.plays) == 0 && len(l.errs) == 0 {
		l.add(&Error{located: text.Error{Place: text.Place{File: opts.shown(name)}, Caret: -1, Message: "this playbook has no plays",
			Hint: "a playbook is a list of plays: \"- hosts: all\" and so on"}})
	}
	if opts.Modules != nil {
		p.check(&l.report, opts.Modules)
	}
	p.warnings = l.warnings
	p.files, p.load = l.digests(), l
	return p, l.err()
}

// Files are the SHA-256, in hex, of all files that the playbook was made of, by
// the names that errors give them: relative to the working folder if they lie
// below it, and after Compile of those that its tasks take.
func (p *Playbook) Files() map[string]string { return maps.Clone(p.files) }

// clean makes a path of the machine one within the file system.
func (l *loader) clean(name string) string {
	if rest, ok := strings.CutPrefix(name, "/"); ok && l.opts.Dir == "/" {
		name = rest
	}
	return path.Clean(name)
}

// beside is the path of a file that another one names.
func (l *loader) beside(src *source, name string) string {
	if strings.HasPrefix(name, "/") {
		return l.clean(name)
	}
	return path.Join(path.Dir(src.path), name)
}

// enter opens a file that is imported at f; leave it with l.leave.
func (l *loader) enter(name string, f *field) (*source, *yaml.Node, bool) {
	for _, o := range l.open {
		if o == name {
			chain := append(append([]string{}, l.open...), name)
			for i := range chain {
				chain[i] = l.opts.shown(chain[i])
			}
			l.add(f.errorAt("this import never ends: %s", strings.Join(chain, " imports ")))
			return nil, nil, false
		}
	}
	if l.files++; l.files > maxFiles {
		l.add(f.errorAt("more than %d files are imported", maxFiles))
		return nil, nil, false
	}
	src, root, e := l.read(name)
	if e != nil {
		// A file that is not there is the fault of the line that names it.
		if f != nil && e.Line == 0 {
			e = f.errorAt("%s", e.Message)
		}
		l.add(e)
		return nil, nil, false
	}
	l.open = append(l.open, name)
	return src, root, true
}

func (l *loader) leave() { l.open = l.open[:len(l.open)-1] }

func (l *loader) playbook(name string, from *field) []*play {
	src, root, ok := l.enter(name, from)
	if !ok {
		return nil
	}
	defer l.leave()
	if root == nil || isNull(root) {
		l.add(src.at(0, 0, "this playbook is empty").hint("a playbook is a list of plays: \"- hosts: all\" and so on"))
		return nil
	}
	if root.Kind != yaml.SequenceNode {
		e := src.errorAt(root, "a playbook is a list of plays, this is %s", kindName(root))
		if root.Kind == yaml.MappingNode {
			e.Hint = "put \"- \" before the first key of the play and indent the rest"
		}
		l.add(e)
		return nil
	}
	var plays []*play
	for _, n := range root.Content {
		n = yaml.Resolve(n)
		if n.Kind != yaml.MappingNode {
			l.add(src.errorAt(n, "a play is a mapping, this is %s", kindName(n)))
			continue
		}
		plays = append(plays, l.play(src, n)...)
	}
	return plays
}

// play reads one item of a playbook, which an import makes several plays.
func (l *loader) play(src *source, n *yaml.Node) []*play {
	entries := l.mapping(src, n)
	for _, e := range entries {
		switch e.name {
		case "import_playbook", "ansible.builtin.import_playbook":
			return l.importPlaybook(src, entries, e)
		case "include":
			l.add(src.errorAt(e.key, "include is gone from Ansible").hint("use import_playbook"))
			return nil
		}
	}
	p := &play{field: field{src, n}}
	var pre, main, post, handlers []*task
	for _, e := range entries {
		f := &field{src, e.val}
		switch e.name {
		case "name":
			p.name = l.text(f)
		case "hosts":
			p.hosts = l.hosts(f)
		case "vars":
			p.vars = []layer{{*f, l.vars(f)}}
		case "vars_files":
			p.fileVars = l.varsFiles(f)
		case "tags":
			p.inherited.tags = l.tags(f)
		case "serial":
			l.parseTemplates(src, f.node)
			p.serial = f
		case "strategy":
			p.strategy = l.text(f)
		case "order":
			p.order = l.text(f)
		case "max_fail_percentage":
			p.maxFail = l.scalar(f)
		case "environment":
			p.inherited.take(l, src, e)
		case "gather_facts":
			l.scalar(f)
		case "tasks", "pre_tasks", "post_tasks", "handlers":
		default:
			if !playKeywords.known(e.name) || !p.inherited.keyword(l, f, e.name) {
				l.keyword(src, e, playKeywords)
			}
		}
	}
	if !containsKey(entries, "hosts") && !slices.ContainsFunc(entries, misspeltHosts) {
		l.add(src.errorAt(n, "this play has no hosts").hint("say where it runs: \"hosts: all\", a group, or localhost for the cluster"))
	}
	for _, e := range entries {
		f := &field{src, e.val}
		switch e.name {
		case "pre_tasks":
			pre = l.tasks(f, p.inherited)
		case "tasks":
			main = l.tasks(f, p.inherited)
		case "post_tasks":
			post = l.tasks(f, p.inherited)
		case "handlers":
			handlers = l.tasks(f, p.inherited)
		}
	}
	p.tasks = l.withHandlers([][]*task{pre, main, post}, handlers)
	return []*play{p}
}

// misspeltHosts is told as an unknown keyword already.
func misspeltHosts(e entry) bool {
	return !playKeywords.known(e.name) && jinja.Nearest(e.name, playKeywords.supported()) == "hosts"
}

func containsKey(entries []entry, name string) bool {
	for _, e := range entries {
		if e.name == name {
			return true
		}
	}
	return false
}

func (l *loader) importPlaybook(src *source, entries []entry, imp entry) []*play {
	var vars []layer
	var tags []string
	var when []*field
	for _, e := range entries {
		f := &field{src, e.val}
		switch e.name {
		case imp.name:
		case "name":
			l.text(f)
		case "vars":
			vars = []layer{{*f, l.vars(f)}}
		case "tags":
			tags = l.tags(f)
		case "when":
			when = l.when(f)
		case "hosts", "tasks":
			l.add(src.errorAt(e.key, "a play that imports a playbook has no %s of its own", e.name))
		default:
			l.keyword(src, e, importPlaybookKeywords)
		}
	}
	f := &field{src, imp.val}
	name, ok := l.file(f, "import_playbook")
	if !ok {
		return nil
	}
	plays := l.playbook(l.beside(src, name), f)
	for _, p := range plays {
		p.vars = slices.Concat(vars, p.vars)
		for _, t := range p.tasks {
			t.tags = append(append([]string{}, tags...), t.tags...)
			t.when = append(append([]*field{}, when...), t.when...)
		}
	}
	return plays
}

// keyword says what is wrong with a key that was not taken.
func (l *loader) keyword(src *source, e entry, k keywords) {
	if k.known(e.name) {
		why, _ := k.refuse(e.name)
		l.add(src.errorAt(e.key, "Ansible knows %q in %s, fleetd does not support it yet", e.name, k.article()).hint("%s", why))
		return
	}
	if places := elsewhere(e.name, k.place); places != "" {
		l.add(src.errorAt(e.key, "%q is no keyword of %s, but of %s", e.name, k.article(), places))
		return
	}
	hint := didYouMean(e.name, k.supported(), k.article()+" takes: "+strings.Join(k.supported(), ", "))
	l.add(src.errorAt(e.key, "unknown keyword %q in %s", e.name, k.article()).hint("%s", hint))
}
