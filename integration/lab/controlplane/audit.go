package controlplane

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func auditLogPath(dir string) string { return filepath.Join(dir, "log", "audit.log") }

// auditPolicy records every write and nothing else: reads, the heartbeats of
// nodes and the questions "may I" change no object. Bodies are kept for the
// user that a program under test is.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- {level: None, verbs: [get, list, watch]}
- level: None
  resources:
  - {group: authorization.k8s.io}
  - {group: authentication.k8s.io}
  - {group: coordination.k8s.io, resources: [leases]}
- {level: Request, users: [` + AdminUser + `]}
- {level: Metadata}
`

// A Write is a request that asked the API server to change something.
type Write struct {
	Time                         time.Time
	User                         string
	Verb                         string // create, update, patch, delete, deletecollection
	Group, Resource, Subresource string
	Namespace, Name              string
	DryRun                       bool // validated, not stored
	URI, UserAgent               string
}

// Writes reads from the API server's audit log what was asked of it since the
// lab started, oldest first; user narrows it to one, "" is everybody. A request
// is logged before it is carried out, so what a client has an answer for is
// there. Refused requests are there too.
func (l *Lab) Writes(user string) ([]Write, error) {
	log, err := os.ReadFile(l.AuditLog())
	if err != nil {
		return nil, fmt.Errorf("cannot read the audit log: %w", err)
	}
	// What follows the last newline is still being written.
	log = log[:bytes.LastIndexByte(log, '\n')+1]
	var writes []Write
	for line := range bytes.Lines(log) {
		var e struct {
			Stage     string
			Verb      string
			UserAgent string
			URI       string    `json:"requestURI"`
			Time      time.Time `json:"requestReceivedTimestamp"`
			User      struct{ Username string }
			ObjectRef struct{ APIGroup, Resource, Subresource, Namespace, Name string }
		}
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("cannot read the audit log: %w", err)
		}
		if e.Stage != "RequestReceived" || user != "" && e.User.Username != user {
			continue
		}
		writes = append(writes, Write{
			Time: e.Time, User: e.User.Username, Verb: e.Verb,
			Group: e.ObjectRef.APIGroup, Resource: e.ObjectRef.Resource, Subresource: e.ObjectRef.Subresource,
			Namespace: e.ObjectRef.Namespace, Name: e.ObjectRef.Name,
			DryRun: strings.Contains(e.URI, "dryRun=All"), URI: e.URI, UserAgent: e.UserAgent,
		})
	}
	return writes, nil
}

// AuditLog is the path of the API server's audit log: every write, as JSON
// lines of audit.k8s.io/v1, with the body for AdminUser.
func (l *Lab) AuditLog() string { return auditLogPath(l.dir) }
