package controlplane

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func auditLogPath(dir string) string { return filepath.Join(dir, "log", "audit.log") }

// auditPolicy records every request of the user that a program under test is, with
// the bodies of its writes, and of everybody else the writes: reads, the heartbeats
// of nodes and the questions "may I" change no object.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- {level: Metadata, users: [` + AdminUser + `], verbs: [get, list, watch]}
- level: Metadata
  users: [` + AdminUser + `]
  resources:
  - {group: authorization.k8s.io}
  - {group: authentication.k8s.io}
  - {group: coordination.k8s.io, resources: [leases]}
- {level: None, verbs: [get, list, watch]}
- level: None
  resources:
  - {group: authorization.k8s.io}
  - {group: authentication.k8s.io}
  - {group: coordination.k8s.io, resources: [leases]}
- {level: Request, users: [` + AdminUser + `]}
- {level: Metadata}
`

// A Request is what the API server was asked.
type Request struct {
	Time                         time.Time
	User                         string
	Verb                         string // get, list, watch; create, update, patch, delete, deletecollection
	Group, Resource, Subresource string
	Namespace, Name              string
	DryRun                       bool // validated, not stored
	URI, UserAgent               string
	// Body is what a write of AdminUser's asked for; nil of others.
	Body json.RawMessage
}

// Writes are the requests of a user ("" is everybody) that asked the API server to
// change something, but for the leases that say that a program is alive.
func (l *Lab) Writes(user string) ([]Request, error) {
	all, err := l.Requests(user)
	return slices.DeleteFunc(all, func(r Request) bool {
		switch r.Group {
		case "authorization.k8s.io", "authentication.k8s.io", "coordination.k8s.io":
			return true
		}
		return r.Verb == "get" || r.Verb == "list" || r.Verb == "watch"
	}), err
}

// Requests reads from the API server's audit log what was asked of it since the
// lab started, oldest first; user narrows it to one, "" is everybody. Reads are
// there of AdminUser only. A request is logged before it is carried out, so what a
// client has an answer for is there. Refused requests are there too.
func (l *Lab) Requests(user string) ([]Request, error) {
	log, err := os.ReadFile(l.AuditLog())
	if err != nil {
		return nil, fmt.Errorf("cannot read the audit log: %w", err)
	}
	// What follows the last newline is still being written.
	log = log[:bytes.LastIndexByte(log, '\n')+1]
	// With bodies a request is logged twice: when it comes and, the body read, when it
	// was answered.
	var requests []Request
	at := map[string]int{}
	for line := range bytes.Lines(log) {
		var e struct {
			AuditID   string
			Stage     string
			Verb      string
			UserAgent string
			URI       string    `json:"requestURI"`
			Time      time.Time `json:"requestReceivedTimestamp"`
			User      struct{ Username string }
			ObjectRef struct{ APIGroup, Resource, Subresource, Namespace, Name string }
			Body      json.RawMessage `json:"requestObject"`
		}
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("cannot read the audit log: %w", err)
		}
		if i, logged := at[e.AuditID]; logged && len(e.Body) > 0 {
			requests[i].Body = e.Body
		}
		if e.Stage != "RequestReceived" || user != "" && e.User.Username != user {
			continue
		}
		if e.AuditID != "" {
			at[e.AuditID] = len(requests)
		}
		requests = append(requests, Request{
			Time: e.Time, User: e.User.Username, Verb: e.Verb,
			Group: e.ObjectRef.APIGroup, Resource: e.ObjectRef.Resource, Subresource: e.ObjectRef.Subresource,
			Namespace: e.ObjectRef.Namespace, Name: e.ObjectRef.Name,
			DryRun: strings.Contains(e.URI, "dryRun=All"), URI: e.URI, UserAgent: e.UserAgent,
		})
	}
	return requests, nil
}

// AuditLog is the path of the API server's audit log, JSON lines of audit.k8s.io/v1:
// every write, and of AdminUser all else and what its writes asked for.
func (l *Lab) AuditLog() string { return auditLogPath(l.dir) }
