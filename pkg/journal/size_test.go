package journal

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWhatIsDroppedIsFree: what is dropped is free, what comes takes that first, and the size is that
// of the file.
func TestWhatIsDroppedIsFree(t *testing.T) {
	dir := t.TempDir()
	j, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	size := func() (bytes, free int64) {
		t.Helper()
		bytes, free, err := j.Size(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return bytes, free
	}
	empty, _ := size()
	hosts := make([]string, 2000)
	for i := range hosts {
		hosts[i] = strings.Repeat("n", 10+i) + " up=drift"
	}
	look(t, j, 0, ever, every, hosts...)
	full, free := size()
	if full < empty+1<<20 || free > full/10 {
		t.Errorf("%d bytes, %d of them free; empty it has %d", full, free, empty)
	}
	look(t, j, 1, ever, every, "n up=drift")
	look(t, j, 2, 1, every, "n up=compliant")
	look(t, j, 3, 1, every, "n up=drift")
	dropped, free := size() // that hosts are gone was written as well, and dropped
	if dropped < full || free < dropped*9/10 {
		t.Errorf("%d bytes, %d of them free; full it has %d", dropped, free, full)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, fileName)); err != nil || info.Size() != dropped {
		t.Errorf("%+v, %v; want %d bytes", info, err, dropped)
	}
}
