package view

import (
	"bytes"
	"fmt"
	"testing"
	"time"
)

func TestWaiting(t *testing.T) {
	at := time.Unix(0, 0)
	var hosts []string
	for i := range 30 {
		hosts = append(hosts, fmt.Sprintf("web%02d", i+1))
	}
	var out bytes.Buffer
	l := NewWaiting(&out, Style{}, "looking at the fleet", "read", hosts, func() time.Time { return at })
	l.Show()
	at = at.Add(4 * time.Second)
	for _, h := range hosts[:9] {
		l.Done(h)
	}
	if got, want := l.line(), "looking at the fleet: 9 of 30 hosts read, 4s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, h := range hosts[:27] {
		l.Done(h)
	}
	if got, want := l.line(), "looking at the fleet: 27 of 30 hosts read, 4s, waiting for web[28:30]"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	l.Hold()()
	l.Close()
	if out.Len() > 0 {
		t.Errorf("wrote %q where there is no terminal", out.String())
	}
}

func TestFit(t *testing.T) {
	for _, tc := range []struct {
		text    string
		columns int
		want    string
	}{
		{"waiting for web1", 0, "waiting for web1"},
		{"waiting for web1", 17, "waiting for web1"},
		{"waiting for web1", 16, "waiting for we…"},
		{"wärten auf", 6, "wärt…"},
		{"web1", 1, "web1"},
	} {
		if got := fit(tc.text, tc.columns); got != tc.want {
			t.Errorf("%q in %d columns: %q, want %q", tc.text, tc.columns, got, tc.want)
		}
	}
}
