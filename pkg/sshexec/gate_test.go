package sshexec

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"

	"pgregory.net/rapid"
)

// chunks is a connection whose peer sends in pieces, and then hangs up.
type chunks struct {
	net.Conn
	left  [][]byte
	reads int
}

func (c *chunks) Read(b []byte) (int, error) {
	c.reads++
	if len(c.left) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.left[0])
	if c.left[0] = c.left[0][n:]; len(c.left[0]) == 0 {
		c.left = c.left[1:]
	}
	return n, nil
}

// TestWatchedReadsAhead: whoever asks for a byte at a time gets all of them, in
// order, and costs no system call for each.
func TestWatchedReadsAhead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pieces := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 1, 2*readAhead), 0, 6).Draw(t, "pieces")
		c := &chunks{left: pieces}
		want := bytes.Join(pieces, nil)
		fewest := len(pieces) // and one for the end
		for _, p := range pieces {
			fewest += len(p) / readAhead
		}
		pass, err := newGate(1).enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer pass.leave()
		w := pass.watch(c)
		var got []byte
		small := rapid.IntRange(1, readAhead-1).Draw(t, "bytes asked for")
		for {
			b := make([]byte, small)
			if rapid.IntRange(0, 9).Draw(t, "large") == 0 {
				b = make([]byte, 4*readAhead)
			}
			n, err := w.Read(b)
			got = append(got, b[:n]...)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || n == 0 {
				t.Fatalf("%d bytes, %v", n, err)
			}
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("read %q of %q", got, want)
		}
		if c.reads > fewest+1 {
			t.Fatalf("%d reads for %d pieces, want at most %d", c.reads, len(pieces), fewest+1)
		}
	})
}
