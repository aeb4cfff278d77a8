package main

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// locate says where a variable is given a value, as "file:line", for an error
// message: the first line of the inventory, or of the group_vars/ and host_vars/
// beside it, that holds both. "" if there is none, as when a template made the
// value.
func locate(sources []string, variable, value string) string {
	for _, s := range sources {
		roots := []string{s}
		if st, err := os.Stat(s); err == nil && !st.IsDir() {
			dir := filepath.Dir(s)
			roots = append(roots, filepath.Join(dir, "group_vars"), filepath.Join(dir, "host_vars"))
		}
		for _, root := range roots {
			found := ""
			_ = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
				// What cannot be read cannot be named; the error itself is told anyway.
				if err == nil && d.Type().IsRegular() {
					found = lineWith(p, variable, value)
				}
				if found != "" {
					return fs.SkipAll
				}
				return nil
			})
			if found != "" {
				return found
			}
		}
	}
	return ""
}

func lineWith(file, variable, value string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		if _, rest, ok := strings.Cut(lines.Text(), variable); ok && strings.Contains(rest, value) {
			return fmt.Sprintf("%s:%d", file, n)
		}
	}
	return ""
}
