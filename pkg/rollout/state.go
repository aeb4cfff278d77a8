package rollout

import (
	"encoding/json"
	"fmt"
	"maps"
	"sync"
)

// State is what is known of one host, in sections that do not know each other:
// "node" (read over SSH), "kubernetes" (its Node object), "calico" (the
// cluster, on localhost). A State is never changed in place: Section.With
// returns a copy, so a Diff can say what the host will look like after it.
type State map[string]*Known

// Known is one section of a State: what an observer wrote, and the value that it is, from
// when somebody has asked for it. It may be asked from several goroutines at once.
type Known struct {
	raw  []byte // JSON; nil where With gave the value
	mu   sync.Mutex
	read any // the value, or the error of reading it; nil = nobody has asked yet
}

// Encoded is a section in the JSON of its observer.
func Encoded(raw []byte) *Known { return &Known{raw: raw} }

// Unread is the state with nothing of it decoded yet. Who goes over many hosts asks it
// of each, or what was decoded of one is held as long as what was observed of all.
func (st State) Unread() State {
	next := make(State, len(st))
	for name, p := range st {
		if p.raw != nil {
			p = Encoded(p.raw)
		}
		next[name] = p
	}
	return next
}

// Has reports whether a section was observed.
func (st State) Has(section string) bool { return st[section] != nil }

// Section is the name and the Go type of one part of a State.
type Section[T any] struct{ name string }

// NewSection declares a section. Call it once per section, in the package that
// owns the type.
func NewSection[T any](name string) Section[T] { return Section[T]{name} }

// Name is the section's key in a State.
func (s Section[T]) Name() string { return s.name }

// Get reads the section, which is decoded once however many ask. What it returns is
// shared: nobody changes what a slice, a map or a pointer of it leads to. It is an error
// if the section was not observed: a module that reads a section must name it in Reads.
func (s Section[T]) Get(st State) (T, error) {
	var v T
	p := st[s.name]
	if p == nil {
		return v, fmt.Errorf("nothing was observed of section %q", s.name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.read == nil {
		if err := json.Unmarshal(p.raw, &v); err != nil {
			p.read = fmt.Errorf("section %q: %w", s.name, err)
		} else {
			p.read = v
		}
	}
	switch read := p.read.(type) {
	case T:
		return read, nil
	case error:
		return *new(T), read
	}
	return *new(T), fmt.Errorf("section %q is a %T, not a %T", s.name, p.read, v)
}

// With returns a copy of the state in which the section holds v, which nobody changes
// from then on.
func (s Section[T]) With(st State, v T) State {
	next := maps.Clone(st)
	if next == nil {
		next = State{}
	}
	next[s.name] = &Known{read: v}
	return next
}

// Read names something that a module has to know of a host before it can say
// what it would change. Key is in the language of the section's observer
// ("package=kernel-ml@elrepo-kernel", "file=/usr/local/lib/…"); the empty key
// asks for what the section always holds.
type Read struct {
	Section string
	Key     string
}

// Observation is what was read of one host, or why it could not be.
type Observation struct {
	State   State
	Problem *Problem
	// Identity, Down and ControlPlane are those of the sections together.
	Identity     map[string]string
	Down         string
	ControlPlane bool
}

// Problem is a reason why a host cannot be planned or why a step failed: what
// could not be done and why, and on a second line what to do next.
type Problem struct {
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	// Unreachable is set when the host could not be talked to at all, as
	// against a host that answered and refused.
	Unreachable bool `json:"unreachable,omitempty"`
	// Parts are the single problems where the message tells of several at once, or
	// of one in a sentence about them all.
	Parts []Problem `json:"parts,omitempty"`
}

func (p *Problem) Error() string { return p.Message }
