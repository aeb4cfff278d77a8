package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Webhook is an address that is told of events by POST.
type Webhook struct {
	Name string
	// URL is the address, or URLFile the file that holds it where whoever knows it may
	// post: it is read anew each time, as TokenFile is, which holds what is shown as a
	// bearer token; "" = none.
	URL, URLFile, TokenFile string
	// Authority is a file in PEM with the authorities that may have signed the
	// certificate; "" = those of the machine.
	Authority string
	Format    Format
	// Events are the kinds that are told; nil = all.
	Events []Kind
}

// Wants reports whether events of a kind are told.
func (w *Webhook) Wants(k Kind) bool { return w.Events == nil || slices.Contains(w.Events, k) }

// CheckURL says what is wrong with an address. A token is sent over TLS alone, or on
// this machine.
func CheckURL(address string, token bool) error {
	u, err := url.Parse(address)
	switch {
	case err != nil, u.Host == "", u.Scheme != "https" && u.Scheme != "http":
		return errors.New("it is no https:// or http:// address") // which may be a secret
	case u.User != nil:
		return errors.New("it holds a name or password, which belong into a file (token_file, url_file)")
	case u.Fragment != "":
		return errors.New("it has a fragment (#), which is never sent")
	case token && u.Scheme == "http" && u.Hostname() != "localhost" && u.Hostname() != "127.0.0.1" && u.Hostname() != "::1":
		return errors.New("it is http://, and a token would be read on the way")
	}
	return nil
}

// Refused is the answer of a server that takes the event itself for wrong: to send it
// again is of no use.
type Refused struct{ Status int }

func (r *Refused) Error() string { return fmt.Sprintf("it was refused with status %d", r.Status) }

// Busy is the answer of a server that wants to be left alone for a while.
type Busy struct {
	Status int
	After  time.Duration
}

func (b *Busy) Error() string { return fmt.Sprintf("the server answered with status %d", b.Status) }

const (
	// sendTime bounds a request with its answer.
	sendTime   = 15 * time.Second
	mostAnswer = 4 << 10 // bytes of an answer that are read, so that the connection can be used again
	mostSecret = 8 << 10
)

// Sender posts to one webhook. It is for one goroutine.
type Sender struct {
	hook   *Webhook
	client *http.Client
}

// NewSender makes the sender of a webhook. The error is one of its authority.
func NewSender(w *Webhook) (*Sender, error) {
	secured := &tls.Config{MinVersion: tls.VersionTLS12}
	if w.Authority != "" {
		raw, err := os.ReadFile(w.Authority)
		if err != nil {
			return nil, err
		}
		if secured.RootCAs = x509.NewCertPool(); !secured.RootCAs.AppendCertsFromPEM(raw) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", w.Authority)
		}
	}
	return &Sender{w, &http.Client{
		Timeout: sendTime,
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: secured, ForceAttemptHTTP2: true,
			MaxIdleConns: 1, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 16 << 10,
		},
		// Elsewhere is nobody whom the configuration trusts.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Send posts an event. The error never holds the address, nor what was answered.
func (s *Sender) Send(ctx context.Context, e Event) error {
	body, err := s.hook.Format.Body(e)
	if err != nil {
		return fmt.Errorf("the template fails: %w", err)
	}
	address, token := s.hook.URL, ""
	if s.hook.URLFile != "" {
		if address, err = Secret(s.hook.URLFile); err != nil {
			return err
		}
	}
	if s.hook.TokenFile != "" {
		if token, err = Secret(s.hook.TokenFile); err != nil {
			return err
		}
	}
	if err := CheckURL(address, token != ""); err != nil {
		return fmt.Errorf("the address cannot be used: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return errors.New("the address cannot be used")
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "fleetd")
	r.Header.Set("Idempotency-Key", strconv.Quote(e.ID))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := s.client.Do(r)
	if err != nil {
		var at *url.Error
		if errors.As(err, &at) { // which names the address
			err = at.Err
		}
		return err
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, mostAnswer) // its status is the answer
	return judge(res)
}

// judge says what a status means.
func judge(res *http.Response) error {
	switch code := res.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code >= 300 && code < 400:
		return fmt.Errorf("the server leads elsewhere (status %d), and that is not followed; the configuration needs the address itself", code)
	case code == http.StatusBadRequest, code == http.StatusRequestEntityTooLarge, code == http.StatusUnsupportedMediaType, code == http.StatusUnprocessableEntity:
		return &Refused{code}
	default:
		seconds, _ := strconv.Atoi(res.Header.Get("Retry-After")) // dates and what is wrong are none
		return &Busy{code, min(longest, time.Duration(max(0, min(seconds, 1<<20)))*time.Second)}
	}
}

// Secret is what a file holds, without the end of its line.
func Secret(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, mostSecret+1))
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(raw))
	if text == "" || len(raw) > mostSecret || strings.ContainsAny(text, "\r\n\x00") {
		return "", fmt.Errorf("%s does not hold one line", file)
	}
	return text, nil
}

const (
	shortest = 5 * time.Second
	longest  = 15 * time.Minute
	// MostTries is how often one event is tried: for about a day.
	MostTries = 100
)

// Backoff is how long to wait after so many tries that have failed, the last with that
// error: twice as long each time, and as long as the server asks for.
func Backoff(tries int, err error) time.Duration {
	wait := longest
	if tries < 9 {
		wait = min(longest, shortest<<max(0, tries-1))
	}
	var busy *Busy
	if errors.As(err, &busy) {
		wait = max(wait, busy.After)
	}
	return wait
}
