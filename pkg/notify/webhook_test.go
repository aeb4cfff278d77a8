package notify

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func sender(t *testing.T, w Webhook) *Sender {
	t.Helper()
	w.Format, _ = Shipped("json")
	s, err := NewSender(&w)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestSend(t *testing.T) {
	var got *http.Request
	var body []byte
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
	}))
	defer srv.Close()
	s := sender(t, Webhook{URLFile: write(t, srv.URL+"/services/T0/B0/XYZ\n"), TokenFile: write(t, "tell-nobody\n")})
	if err := s.Send(t.Context(), unkind()); err != nil {
		t.Fatal(err)
	}
	if got.Method != http.MethodPost || got.URL.Path != "/services/T0/B0/XYZ" || got.Header.Get("Authorization") != "Bearer tell-nobody" ||
		got.Header.Get("Content-Type") != "application/json" || got.Header.Get("Idempotency-Key") != `"x/1"` || !strings.Contains(string(body), `"event":"node.lost"`) {
		t.Errorf("%v %s", got.Header, body)
	}
}

// TestUnkind: whatever a server does, it is an error that names neither the address nor
// the token, and nobody else is asked.
func TestUnkind(t *testing.T) {
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	hang := func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body) // or it would not see that the client is gone
		<-r.Context().Done()
	}
	for name, c := range map[string]struct {
		serve   http.HandlerFunc
		want    string
		refused bool
		after   time.Duration
	}{
		"fails":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, "answered with status 500", false, 0},
		"has enough": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Retry-After", "120"); w.WriteHeader(429) }, "status 429", false, 2 * time.Minute},
		"wants a year": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "99999999999")
			w.WriteHeader(503)
		}, "status 503", false, longest},
		"wants the past":     {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Retry-After", "-5"); w.WriteHeader(503) }, "status 503", false, 0},
		"does not let us in": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, "status 403", false, 0},
		"refuses it":         {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(400) }, "refused with status 400", true, 0},
		"leads elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		}, "leads elsewhere (status 307)", false, 0},
		"resets":        {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF", false, 0},
		"never answers": {hang, "deadline", false, 0},
		"many headers":  {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) }, "header", false, 0},
		"talks for ever and fails": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(502)
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}, "status 502", false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewUnstartedServer(c.serve)
			srv.Config.ErrorLog = nil
			srv.Start()
			s := sender(t, Webhook{URL: srv.URL + "/hidden-path", TokenFile: write(t, "hidden-token")})
			ctx := t.Context()
			if name == "never answers" {
				var stop context.CancelFunc
				ctx, stop = context.WithTimeout(ctx, 50*time.Millisecond) // what the client's own limit would do later
				defer stop()
			}
			err := s.Send(ctx, unkind())
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hidden") {
				t.Errorf("%v, want %q", err, c.want)
			}
			if errors.As(err, new(*Refused)) != c.refused {
				t.Errorf("%v is for good: %v", err, !c.refused)
			}
			if busy := (*Busy)(nil); errors.As(err, &busy) && busy.After != c.after {
				t.Errorf("it waits %v, want %v", busy.After, c.after)
			}
			srv.CloseClientConnections()
			srv.Close()
		})
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("another server was asked %d times", n)
	}
	if s := sender(t, Webhook{URL: "http://localhost"}); s.client.Timeout != sendTime {
		t.Error("nothing bounds how long an answer takes")
	}
}

func TestNobodyListens(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := "http://" + l.Addr().String() + "/hidden"
	_ = l.Close()
	if err := sender(t, Webhook{URL: address}).Send(t.Context(), unkind()); err == nil || strings.Contains(err.Error(), "hidden") {
		t.Error(err)
	}
}

func TestVerifiesTLS(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	srv.Config.ErrorLog = nil
	if err := sender(t, Webhook{URL: srv.URL}).Send(t.Context(), unkind()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate of nobody is taken: %v", err)
	}
	authority := write(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})))
	if err := sender(t, Webhook{URL: srv.URL, Authority: authority}).Send(t.Context(), unkind()); err != nil {
		t.Error(err)
	}
	if _, err := NewSender(&Webhook{Authority: write(t, "no certificate")}); err == nil {
		t.Error("a file without certificates is taken for an authority")
	}
}

func TestCheckURL(t *testing.T) {
	for address, want := range map[string]string{
		"https://hooks.example.org/x": "", "http://alertmanager:9093/api/v2/alerts": "http://, and a token", "http://127.0.0.1:9093/": "", "http://[::1]/": "", "http://localhost/": "",
		"ftp://x/": "no https", "hooks.example.org": "no https", "": "no https", "https://": "no https", "https://a:b@c/": "name or password", "https://c/#x": "fragment", "https://c/\x7f": "no https",
	} {
		err := CheckURL(address, true)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", address, err, want)
		}
	}
	if err := CheckURL("http://alertmanager:9093/api/v2/alerts", false); err != nil {
		t.Error(err)
	}
}

func TestSecret(t *testing.T) {
	for text, want := range map[string]string{"a\n": "a", " a b \n": "a b", "": "", "\n": "", "a\nb": "", strings.Repeat("a", 9000): ""} {
		got, err := Secret(write(t, text))
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%.20q: %q, %v", text, got, err)
		}
	}
}

// TestBackoff: the waits grow, are bounded, and what the server asks for is granted.
func TestBackoff(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, MostTries).Draw(t, "tries")
		after := time.Duration(rapid.Int64Range(0, int64(longest)).Draw(t, "after"))
		plain, asked := Backoff(n, io.EOF), Backoff(n, &Busy{503, after})
		if plain < shortest || plain > longest || Backoff(n+1, io.EOF) < plain || asked < max(plain, after) || asked > longest {
			t.Errorf("%v, %v", plain, asked)
		}
	})
	var all time.Duration
	for n := range MostTries {
		all += Backoff(n+1, io.EOF)
	}
	if all < 20*time.Hour || all > 30*time.Hour {
		t.Errorf("one is tried for %v", all)
	}
}
