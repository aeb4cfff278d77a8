package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestFaults(t *testing.T) {
	f := faults(t.TempDir())
	if f.set(noBPF) || f.time(slow) != 0 {
		t.Error("there is a fault where nobody set one")
	}
	for name, content := range map[string]string{noBPF: "0s\n", slow: "1m30s\n"} {
		if err := os.WriteFile(filepath.Join(string(f), name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if !f.set(noBPF) || f.set(neverReady) {
		t.Error("not the fault that was set")
	}
	if got := f.time(slow); got != 90*time.Second {
		t.Errorf("slow for %s, want 1m30s", got)
	}
}
