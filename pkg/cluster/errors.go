package cluster

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// Error is why something could not be done with the cluster.
type Error struct {
	// Doing completes "cannot …".
	Doing string
	Err   error
	// What is what the person can do about it; may be empty.
	What string
}

func (e *Error) Error() string { return "cannot " + e.Doing + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Hint is the second line of the message: what to do next.
func (e *Error) Hint() string { return e.What }

// NotConfigured is why nothing can be done with a cluster where none is configured.
func NotConfigured(doing string) error {
	return &Error{Doing: doing, Err: errors.New("no cluster is configured"), What: noKubeconfigHint}
}

// Explain wraps an error of the API server, or of the way to it, once.
func (c *Client) Explain(err error, format string, a ...any) error {
	if err == nil {
		return nil
	}
	var done *Error
	if errors.As(err, &done) {
		return err
	}
	e := &Error{Doing: fmt.Sprintf(format, a...), Err: err}
	var authority x509.UnknownAuthorityError
	switch {
	case apierrors.IsUnauthorized(err):
		e.What = "the kubeconfig's credentials are not accepted (expired?): try kubectl auth whoami with the same kubeconfig"
	case apierrors.IsForbidden(err):
		e.What = forbiddenHint(err)
	case errors.As(err, &authority):
		e.What = fmt.Sprintf("the certificate of %s is not signed by the CA in the kubeconfig: is this the right cluster?", c.Server)
	case strings.Contains(err.Error(), noCredentials):
		e.What = "the API server was not asked: the kubeconfig's exec plugin gave no credentials; try kubectl auth whoami with the same kubeconfig"
	case unreachable(err):
		e.Err = fmt.Errorf("API server %s does not answer: %w", c.Server, err)
		e.What = "check that this machine reaches it (curl -k " + c.Server + "/readyz), or dial it through a node"
	}
	return e
}

// noCredentials is how client-go begins an error of an exec plugin, which has no type
// (k8s.io/client-go/plugin/pkg/client/auth/exec, RoundTrip).
const noCredentials = "getting credentials: exec: "

// forbiddenHint says which right is missing, in the words of kubectl.
func forbiddenHint(err error) string {
	// The server's text holds verb, resource and user: `User "x" cannot patch
	// resource "nodes" in API group "" at the cluster scope`.
	var s apierrors.APIStatus
	if !errors.As(err, &s) {
		return ""
	}
	text := s.Status().Message
	verb := between(text, "cannot ", " resource")
	resource := between(text, `resource "`, `"`)
	group := between(text, `API group "`, `"`)
	if verb == "" || resource == "" {
		return "the user of the kubeconfig lacks a right; deploy/rbac.yaml has all that fleetd needs"
	}
	if group != "" {
		resource += "." + group
	}
	where := "--all-namespaces"
	if ns := between(text, `in the namespace "`, `"`); ns != "" {
		where = "-n " + ns
	}
	return fmt.Sprintf("grant it by RBAC (deploy/rbac.yaml has all); check with: kubectl auth can-i %s %s %s", verb, resource, where)
}

func between(s, before, after string) string {
	_, s, ok := strings.Cut(s, before)
	if !ok {
		return ""
	}
	s, _, ok = strings.Cut(s, after)
	if !ok {
		return ""
	}
	return s
}

// unreachable reports whether the API server could not be talked to.
func unreachable(err error) bool {
	var n net.Error
	return errors.As(err, &n) || utilnet.IsConnectionRefused(err) || utilnet.IsConnectionReset(err) ||
		utilnet.IsProbableEOF(err) || errors.Is(err, context.DeadlineExceeded)
}

// passing reports whether the same request may well succeed a moment later: an
// API server that restarts, because its node is being rebooted, is no reason to
// fail a host.
func passing(err error) bool {
	var authority x509.UnknownAuthorityError
	if errors.As(err, &authority) || errors.Is(err, context.Canceled) {
		return false
	}
	return unreachable(err) || errors.Is(err, errEtcd) || apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) ||
		apierrors.IsTooManyRequests(err) || apierrors.IsServiceUnavailable(err) ||
		apierrors.IsInternalError(err) || apierrors.IsConflict(err)
}

// statusMessage reads the message of a metav1.Status.
func statusMessage(raw []byte) string {
	var s metav1.Status
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s.Message
}
