package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// maxRecordedBody bounds what an operation keeps of a request, and of the
// server's answer when it refused.
const maxRecordedBody = 4 << 10

type waitKey struct{}

// askedToWait returns a context for one eviction, and what will hold for how long
// the API server asks to be left alone, if it refuses.
func askedToWait(ctx context.Context) (context.Context, *time.Duration) {
	asked := new(time.Duration)
	return context.WithValue(ctx, waitKey{}, asked), asked
}

type hostKey struct{}

// forHost says which host the requests of this context are made for. Without
// it they are the cluster's own.
func forHost(ctx context.Context, host string) context.Context {
	return context.WithValue(ctx, hostKey{}, host)
}

// recorder notes every write as an operation, whichever client made it.
type recorder struct{ next http.RoundTripper }

// WrappedRoundTripper lets client-go find the transport beneath, which it
// cancels requests at.
func (r *recorder) WrappedRoundTripper() http.RoundTripper { return r.next }

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	if !writes(req) {
		return r.next.RoundTrip(req)
	}
	text := req.Method + " " + req.URL.EscapedPath()
	query := req.URL.Query()
	query.Del("timeout") // client-go's own, on every request
	if len(query) > 0 {
		text += "?" + query.Encode()
	}
	if body := recordedBody(req); body != "" {
		text += " " + body
	}
	host, ok := req.Context().Value(hostKey{}).(string)
	if !ok {
		host = rollout.Localhost
	}
	started := time.Now()
	resp, err := r.next.RoundTrip(req)
	op := rollout.Operation{Kind: "api", Host: host, Text: text, Started: started, Took: time.Since(started)}
	if err != nil {
		op.Result = err.Error()
	} else {
		op.Result = resultOf(resp)
		if strings.HasSuffix(req.URL.Path, "/eviction") {
			// client-go would sit out the Retry-After of a refused eviction
			// inside the call, ten times over. Waiting is an outcome.
			if asked, ok := req.Context().Value(waitKey{}).(*time.Duration); ok {
				seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After")) // none is 0
				*asked = time.Duration(seconds) * time.Second
			}
			resp.Header.Del("Retry-After")
		}
	}
	rollout.RecorderFrom(req.Context()).Record(op)
	return resp, err
}

// writes reports whether the request changes something in the cluster. Asking
// "may I?" is a POST that does not.
func writes(req *http.Request) bool {
	switch req.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return !strings.HasPrefix(req.URL.Path, "/apis/authorization.k8s.io/")
	}
	return false
}

// recordedBody is the beginning of the request's body, or a word in place of
// one that may hold a secret.
func recordedBody(req *http.Request) string {
	if req.Body == nil || req.Body == http.NoBody {
		return ""
	}
	if secret(req.URL.Path) {
		return "(body withheld)"
	}
	if req.GetBody == nil {
		return "(body not seen)"
	}
	body, err := req.GetBody()
	if err != nil {
		return "(body not seen)"
	}
	defer func() { _ = body.Close() }() // a copy in memory
	return clip(body, req.ContentLength)
}

// secret reports whether requests to this path carry credentials.
func secret(path string) bool {
	for part := range strings.SplitSeq(path, "/") {
		switch part {
		case "secrets", "token", "tokenreviews", "certificatesigningrequests":
			return true
		}
	}
	return false
}

func clip(r io.Reader, size int64) string {
	raw, _ := io.ReadAll(io.LimitReader(r, maxRecordedBody+1))
	if len(raw) <= maxRecordedBody {
		return strings.TrimSpace(string(raw))
	}
	if size > 0 {
		return fmt.Sprintf("%s… (%d bytes)", raw[:maxRecordedBody], size)
	}
	return fmt.Sprintf("%s…", raw[:maxRecordedBody])
}

// resultOf is the status line, with the server's reason when it refused. The
// body is put back for the client.
func resultOf(resp *http.Response) string {
	if resp.StatusCode < 400 || resp.Body == nil {
		return resp.Status
	}
	head, _ := io.ReadAll(io.LimitReader(resp.Body, maxRecordedBody))
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), resp.Body), resp.Body}
	if msg := statusMessage(head); msg != "" {
		return resp.Status + ": " + msg
	}
	return resp.Status
}
