package view

import (
	"bytes"
	"fmt"
	"testing"
	"time"
)

func TestLooking(t *testing.T) {
	at := time.Unix(0, 0)
	var hosts []string
	for i := range 30 {
		hosts = append(hosts, fmt.Sprintf("web%02d", i+1))
	}
	var out bytes.Buffer
	l := NewLooking(&out, Style{}, hosts, func() time.Time { return at })
	l.Show()
	at = at.Add(4 * time.Second)
	for _, h := range hosts[:9] {
		l.Read(h)
	}
	if got, want := l.line(), "looking at the fleet: 9 of 30 hosts read, 4s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, h := range hosts[:27] {
		l.Read(h)
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
