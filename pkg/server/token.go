package server

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fleetd/fleetd/pkg/text"
)

// Role is what somebody may do. Each is for itself: who may ask for something need
// not be who allows it. Every role reads.
type Role string

const (
	// Viewer reads, and no more.
	Viewer Role = "viewer"
	// Operator pauses and aborts runs, and proposes plans.
	Operator Role = "operator"
	// Approver approves plans that somebody else has proposed.
	Approver Role = "approver"
)

var roles = []Role{Viewer, Operator, Approver}

// Token lets somebody in. What is kept of it is its SHA-256: it is 256 random
// bits, which nobody finds by trying, so a slow hash would gain nothing.
type Token struct {
	Name  string
	Roles []Role
	Sum   [sha256.Size]byte
}

// May reports whether the owner may do what is for that role.
func (t Token) May(r Role) bool { return r == Viewer || slices.Contains(t.Roles, r) }

// NewToken makes a token of that name and those roles, and the text that is shown to
// its owner once.
func NewToken(name string, roles ...Role) (secret string, t Token) {
	secret = random()
	return secret, Token{name, roles, sumOf(secret)}
}

// random is 256 random bits as text.
func random() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// sumOf is what is kept of a token, and of what a browser keeps of a session.
func sumOf(secret string) [sha256.Size]byte { return sha256.Sum256([]byte(secret)) }

// whose is the token of that text. How long it takes does not depend on how much
// of the text is right.
func whose(tokens []Token, secret string) (found Token, ok bool) {
	sum := sumOf(secret)
	for _, t := range tokens {
		if subtle.ConstantTimeCompare(sum[:], t.Sum[:]) == 1 {
			found, ok = t, true
		}
	}
	return found, ok
}

const (
	// sessionLasts is how long a browser stays logged in: a change window.
	sessionLasts = 12 * time.Hour
	mostSessions = 1000
)

// sessions are the browsers that have shown a token. They are kept in memory
// alone: with the process they end.
type sessions struct {
	now func() time.Time
	mu  sync.Mutex
	by  map[[sha256.Size]byte]session // the SHA-256 of what the browser keeps
}

type session struct {
	token Token
	until time.Time
}

// begin makes a new session, whatever the browser had before.
func (s *sessions) begin(t Token) (cookie string) {
	cookie = random()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	var first [sha256.Size]byte
	for sum, x := range s.by {
		if now.After(x.until) {
			delete(s.by, sum)
		} else if y, ok := s.by[first]; !ok || x.until.Before(y.until) {
			first = sum
		}
	}
	if len(s.by) >= mostSessions {
		delete(s.by, first)
	}
	s.by[sumOf(cookie)] = session{t, now.Add(sessionLasts)}
	return cookie
}

func (s *sessions) whose(cookie string) (Token, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, ok := s.by[sumOf(cookie)]
	return x.token, ok && !s.now().After(x.until)
}

func (s *sessions) end(cookie string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.by, sumOf(cookie))
}

// ParseRole is the role of that name.
func ParseRole(name string) (Role, error) {
	if i := slices.Index(roles, Role(name)); i >= 0 {
		return roles[i], nil
	}
	return "", fmt.Errorf("there is no role %q\nthe roles are %s", text.Clip(name), roles)
}
