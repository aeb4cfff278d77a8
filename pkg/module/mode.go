package module

import (
	"fmt"
	"strconv"
	"strings"
)

// modeOf is the mode that a task asks for, as Ansible reads it: octal digits, or
// what chmod takes ("u=rw,g+r,o="). was is the mode that is there.
func modeOf(want string, was uint32, isDir bool, umask uint32) (uint32, error) {
	if n, ok := octal(want); ok {
		return n, nil
	}
	m := was
	for clause := range strings.SplitSeq(want, ",") {
		i := strings.IndexAny(clause, "+-=")
		if i < 0 {
			return 0, badMode(clause)
		}
		who, masked := clause[:i], uint32(0)
		if who == "" {
			masked = umask
		}
		if who == "" || who == "a" {
			who = "ugo"
		}
		if strings.Trim(who, "ugo") != "" {
			return 0, badMode(clause)
		}
		for rest := clause[i:]; rest != ""; {
			op := rest[0]
			rest = rest[1:]
			end := strings.IndexAny(rest, "+-=")
			if end < 0 {
				end = len(rest)
			}
			perms := rest[:end]
			rest = rest[end:]
			if strings.Trim(perms, "rwxXstugo") != "" {
				return 0, badMode(clause)
			}
			for _, w := range who {
				m = applied(m, op, w, bitsOf(w, perms, was, isDir, masked))
			}
		}
	}
	return m, nil
}

// octal reads an octal mode as Python's int(s, 8) does.
func octal(s string) (uint32, bool) {
	s = strings.TrimSpace(s)
	s = strings.TrimPrefix(strings.TrimPrefix(s, "0o"), "0O")
	n, err := strconv.ParseUint(s, 8, 32)
	return uint32(n), err == nil && n <= 0o7777
}

func badMode(clause string) error {
	return fmt.Errorf("bad symbolic permission for mode: %s", clause)
}

// shift is where the bits of a user class stand.
func shift(who rune) uint { return map[rune]uint{'u': 6, 'g': 3, 'o': 0}[who] }

// special is the bit that s or t sets for a user class.
func special(who rune) uint32 { return map[rune]uint32{'u': 0o4000, 'g': 0o2000, 'o': 0o1000}[who] }

// bitsOf are the bits that permissions mean for one class of users. Those that
// name another class copy its bits.
func bitsOf(who rune, perms string, was uint32, isDir bool, masked uint32) uint32 {
	var bits uint32
	for _, p := range perms {
		var b uint32
		switch p {
		case 'r':
			b = 4 << shift(who) &^ masked
		case 'w':
			b = 2 << shift(who) &^ masked
		case 'x':
			b = 1 << shift(who) &^ masked
		case 'X':
			if isDir || was&0o111 != 0 {
				b = 1 << shift(who)
			}
		case 's':
			if who != 'o' {
				b = special(who)
			}
		case 't':
			if who == 'o' {
				b = special(who)
			}
		default:
			b = was >> shift(p) & 7 << shift(who)
		}
		bits |= b
	}
	return bits
}

func applied(m uint32, op byte, who rune, bits uint32) uint32 {
	switch op {
	case '+':
		return m | bits
	case '-':
		return m &^ bits
	}
	return m&^(7<<shift(who)|special(who)) | bits
}

// shownMode is a mode as Ansible's results have it.
func shownMode(m uint32) string { return fmt.Sprintf("0%03o", m) }
