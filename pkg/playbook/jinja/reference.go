package jinja

import (
	"maps"
	"slices"
)

// A Word is a filter or a test of Jinja and Ansible.
type Word struct {
	Name string
	// Refused is set where fleetd has it not, Why says the reason where there is one.
	Refused bool
	Why     string
}

// Filters are all filters, Tests all tests that this package knows of, by name.
func Filters() []Word { return wordsIn(filterNames(), unsupportedFilters) }

func Tests() []Word { return wordsIn(testNames(), unsupportedTests) }

func wordsIn(have []string, refused map[string]string) []Word {
	var out []Word
	for _, name := range have {
		out = append(out, Word{Name: name})
	}
	for _, name := range slices.Sorted(maps.Keys(refused)) {
		out = append(out, Word{Name: name, Refused: true, Why: refused[name]})
	}
	slices.SortFunc(out, func(a, b Word) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
}
