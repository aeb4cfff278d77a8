// Package client asks a fleetd serve by its API, in place of the journal. What a server
// answers is not trusted: it is bounded, plans are held against their digests, and its
// words are made printable.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/text"
)

const (
	// callTime is how long one call may take: a plan of 60 MB goes up, or comes down.
	callTime = time.Minute
	// mostAnswer bounds an answer, in bytes, mostPlan one that holds a plan or output of
	// commands, mostError one that says what is wrong.
	mostAnswer = 16 << 20
	mostPlan   = 256 << 20
	mostError  = 64 << 10
)

// Options say which server is asked, and in whose name.
type Options struct {
	// URL is its address: https://bastion.example.org:8420, or http:// on this machine.
	URL string
	// Token is what it knows who asks by.
	Token string
	// Authority is a file in PEM with the authorities that may have signed its
	// certificate; "" = those of the machine.
	Authority string
	// Certificate and Key are files in PEM with what is shown to a server that wants a
	// certificate of its clients; "" = nothing.
	Certificate, Key string
}

// Client asks one server. It can be used by several at once.
type Client struct {
	base   *url.URL
	token  string
	http   *http.Client
	within time.Duration // for how long a call may take
	follow following
}

// New makes a client, and asks for nothing yet.
func New(o Options) (*Client, error) {
	base, err := address(o.URL)
	if err != nil {
		return nil, fmt.Errorf("cannot ask the server %q: %w", shown(o.URL), err)
	}
	if err := checkToken(o.Token); err != nil {
		return nil, err
	}
	secured, err := o.secured()
	if err != nil {
		return nil, err
	}
	return &Client{base: base, token: o.Token, within: callTime, follow: following{quiet: quietTime, again: againTime, patience: patience}, http: &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: secured, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second,
			DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 16 << 10,
		},
		// The API sends nobody elsewhere; who does is not the server that was meant.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// secured is whom a client trusts, and what it shows.
func (o Options) secured() (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.Authority != "" {
		raw, err := os.ReadFile(o.Authority)
		if err != nil {
			return nil, fmt.Errorf("cannot read the server's authority: %w", err)
		}
		if out.RootCAs = x509.NewCertPool(); !out.RootCAs.AppendCertsFromPEM(raw) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", o.Authority)
		}
	}
	switch {
	case o.Certificate == "" && o.Key == "":
		return out, nil
	case o.Certificate == "" || o.Key == "":
		return nil, errors.New("a certificate goes with its key\ngive --client-certificate FILE and --client-key FILE")
	}
	info, err := os.Stat(o.Key)
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot read the key of the certificate: %w", err)
	case info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("others can read the key in %s (mode %04o)\nchmod 600 it, and have a new one made if somebody may have read it", o.Key, info.Mode().Perm())
	}
	pair, err := tls.LoadX509KeyPair(o.Certificate, o.Key)
	if err != nil {
		return nil, fmt.Errorf("cannot read the certificate %s with its key %s: %w", o.Certificate, o.Key, err)
	}
	out.Certificates = []tls.Certificate{pair}
	return out, nil
}

// address is where a server is. The token is sent over TLS alone, or on this machine.
func address(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil, u.Host == "", u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("it is no address\ngive one as https://bastion.example.org:8420")
	case u.User != nil:
		return nil, errors.New("it holds a name or password\nthe token belongs into FLEETD_TOKEN or a file")
	case u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/":
		return nil, errors.New("it goes on behind the port\ngive the address alone: " + u.Scheme + "://" + u.Host)
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return nil, errors.New("it is http://, and the token would be read on the way\n" +
			"give https:// (tls in the configuration of fleetd serve), or reach it through ssh -L 8420:127.0.0.1:8420 as http://127.0.0.1:8420")
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// shown is an address without what may be a password in it.
func shown(raw string) string {
	if at := strings.LastIndex(raw, "@"); at >= 0 {
		return "…" + raw[at:]
	}
	return raw
}

// checkToken refuses what cannot be in a header. The error does not hold it.
func checkToken(token string) error {
	if token == "" {
		return errors.New("the server wants a token\ngive it in FLEETD_TOKEN, or in a file that only you can read with --token-file; fleetd serve token NAME makes one")
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("the token is none: it holds blanks, or other characters than those of a token\nit is one line, as fleetd serve token NAME has shown it")
	}
	return nil
}

// Error is what a server has answered instead of what was asked for.
type Error struct {
	// Status is that of HTTP.
	Status int
	// Message is what is wrong, Hint what to do about it; both printable.
	Message, Hint string
}

func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Message
	}
	return e.Message + "\n" + e.Hint
}

// request is one to a path of the API, whose parts are escaped here.
func (c *Client) request(ctx context.Context, method string, query url.Values, body []byte, path ...string) (*http.Request, error) {
	raw := c.base.String() + "/api/v1"
	for _, p := range path {
		raw += "/" + url.PathEscape(p)
	}
	if len(query) > 0 {
		raw += "?" + query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, raw, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	r.Header.Set("Accept", "application/json")
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	return r, nil
}

// call asks for one thing, and decodes at most that many bytes of the answer into out.
func (c *Client) call(ctx context.Context, method string, query url.Values, body []byte, most int64, out any, path ...string) error {
	within, stop := context.WithTimeout(ctx, c.within)
	defer stop()
	err := c.answer(within, method, query, body, most, out, path...)
	var refused *Error
	switch {
	case err == nil, errors.As(err, &refused):
		return err
	case method != http.MethodGet:
		// Each of the calls that change something can be made again.
		return fmt.Errorf("%w\nit may have been done all the same; asking again does no harm, and tells", err)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return err
}

func (c *Client) answer(ctx context.Context, method string, query url.Values, body []byte, most int64, out any, path ...string) error {
	r, err := c.request(ctx, method, query, body, path...)
	if err != nil {
		return err
	}
	res, err := c.http.Do(r)
	if err != nil {
		return c.unanswered(err)
	}
	defer res.Body.Close()
	if err := c.refused(res); err != nil {
		return err
	}
	raw, err := io.ReadAll(io.LimitReader(res.Body, most+1))
	switch {
	case err != nil:
		return c.unanswered(err)
	case int64(len(raw)) > most:
		return c.strange(fmt.Sprintf("with more than %d MB", most>>20))
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return c.strange("with JSON that is not that of the API: " + err.Error())
	}
	return nil
}

// unanswered is why there is no whole answer.
func (c *Client) unanswered(err error) error {
	var in *url.Error
	if errors.As(err, &in) {
		err = in.Err // the address is said here
	}
	what, hint := err.Error(), "is fleetd serve there, and is the address right?"
	if errors.Is(err, context.DeadlineExceeded) {
		what = "no answer within " + c.within.String()
	}
	var unsigned x509.UnknownAuthorityError
	if errors.As(err, &unsigned) {
		hint = "if an authority of your own has signed the certificate, --server-authority FILE names it"
	}
	var refused *net.OpError
	if errors.As(err, &refused) && refused.Op == "remote error" { // crypto/tls calls an alert of the other side so
		hint = "if it wants a certificate of its clients, --client-certificate FILE and --client-key FILE show one"
	}
	return lostError{fmt.Sprintf("cannot ask %s: %s\n%s", c.base, text.Printable(what), hint)}
}

// lostError is for an answer that has not come, or from who stands in for the server:
// asked again, it may.
type lostError struct{ text string }

func (e lostError) Error() string { return e.text }

// refused is what an answer says that is not what was asked for; nil if it is.
func (c *Client) refused(res *http.Response) error {
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	is := kind == "application/json"
	switch {
	case res.StatusCode >= 300 && res.StatusCode < 400:
		return c.strange(fmt.Sprintf("that what is asked for is elsewhere (%s), where the token is not sent", shown(res.Header.Get("Location"))))
	case res.StatusCode < 300 && (is || kind == "text/event-stream" || res.StatusCode == http.StatusNoContent):
		return nil
	case !is && res.StatusCode >= http.StatusInternalServerError:
		return lostError{c.strange(fmt.Sprintf("with %q (%s)", kind, res.Status)).Error()}
	case !is:
		return c.strange(fmt.Sprintf("with %q (%s)", kind, res.Status))
	}
	var said struct{ Error, Hint string }
	raw, err := io.ReadAll(io.LimitReader(res.Body, mostError))
	if err == nil {
		err = json.Unmarshal(raw, &said)
	}
	if err != nil || said.Error == "" {
		return c.strange("with " + res.Status)
	}
	return &Error{res.StatusCode, clip(said.Error), clip(said.Hint)}
}

// strange is an answer that no fleetd serve gives.
func (c *Client) strange(what string) error {
	return fmt.Errorf("%s answers %s\nis the address that of a fleetd serve, of this version, and not of a proxy before it?", c.base, clip(what))
}

// clip makes what a server says printable, and no longer than a screen.
func clip(s string) string {
	const most = 2000
	s = text.Printable(s)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
