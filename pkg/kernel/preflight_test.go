package kernel

import (
	"testing"
)

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{"0": 0, "150M": 150 << 20, "1G": 1 << 30, "2048K": 2 << 20, "1 MiB": 1 << 20, "64mb": 64 << 20, "1000": 1000} {
		if got, err := parseSize(s); err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "-1", "many", "1.5G", "M", "99999999999G"} {
		if got, err := parseSize(s); err == nil {
			t.Errorf("parseSize(%q) = %d", s, got)
		}
	}
}
