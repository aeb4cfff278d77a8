package jinja

import (
	"math"
	"math/bits"
	"strings"
)

// arithmetic is Python's: // and % round down, / is always a float, texts and
// lists are joined with + and repeated with *.
func arithmetic(op string, l, r any, at int) (any, error) {
	li, lf, lInt, lNum := number(l)
	ri, rf, rInt, rNum := number(r)
	if lNum && rNum {
		if (op == "/" || op == "//" || op == "%") && rf == 0 {
			return nil, errorAt(at, "division by zero").token(op)
		}
		if lInt && rInt && op != "/" {
			v, ok, err := integers(op, li, ri)
			if err != nil {
				return nil, errorAt(at, "the result of %s %v", op, err).token(op)
			}
			if ok {
				return v, nil
			}
		}
		return floats(op, lf, rf), nil
	}
	switch op {
	case "+":
		switch a := l.(type) {
		case string:
			if b, ok := r.(string); ok {
				return limited(a+b, at)
			}
		case []any:
			if b, ok := r.([]any); ok {
				return append(append(make([]any, 0, len(a)+len(b)), a...), b...), nil
			}
		}
	case "*":
		if lNum && lInt {
			l, ri, rInt, rNum = r, li, true, true
		}
		if rNum && rInt {
			n := max(ri, 0)
			switch a := l.(type) {
			case string:
				if len(a) > 0 && n > int64(maxText/len(a)) {
					return nil, errorAt(at, "this makes a text of more than %d MB", maxText>>20).token(op)
				}
				return strings.Repeat(a, int(n)), nil
			case []any:
				if len(a) > 0 && n > int64(maxText/8/len(a)) {
					return nil, errorAt(at, "this makes too long a list").token(op)
				}
				out := []any{}
				for range n {
					out = append(out, a...)
				}
				return out, nil
			}
		}
	}
	return nil, mismatch(op, l, r, at)
}

// integers computes on whole numbers; ok is false if the result is a float.
func integers(op string, a, b int64) (v int64, ok bool, err error) {
	switch op {
	case "+":
		v = a + b
		if (a > 0) == (b > 0) && a != 0 && b != 0 && (v > 0) != (a > 0) {
			return 0, false, errOverflow
		}
	case "-":
		v = a - b
		if (a >= 0) != (b >= 0) && (v >= 0) != (a >= 0) {
			return 0, false, errOverflow
		}
	case "*":
		hi, lo := bits.Mul64(magnitude(a), magnitude(b))
		if hi != 0 || lo > math.MaxInt64 {
			return 0, false, errOverflow
		}
		v = a * b
	case "//":
		if a == math.MinInt64 && b == -1 {
			return 0, false, errOverflow
		}
		v = a / b
		if a%b != 0 && (a < 0) != (b < 0) {
			v--
		}
	case "%":
		if b == -1 {
			return 0, true, nil
		}
		v = a % b
		if v != 0 && (v < 0) != (b < 0) {
			v += b
		}
	case "**":
		if b < 0 {
			return 0, false, nil
		}
		v = 1
		for range b {
			next, _, err := integers("*", v, a)
			if err != nil {
				return 0, false, err
			}
			if next == v && (a == 0 || a == 1) {
				return next, true, nil
			}
			if a == -1 {
				return 1 - 2*(b%2), true, nil
			}
			v = next
		}
	}
	return v, true, nil
}

func magnitude(a int64) uint64 {
	if a < 0 {
		return uint64(-(a + 1)) + 1
	}
	return uint64(a)
}

func floats(op string, a, b float64) any {
	switch op {
	case "+":
		return a + b
	case "-":
		return a - b
	case "*":
		return a * b
	case "/":
		return a / b
	case "//":
		return math.Floor(a / b)
	case "%":
		m := math.Mod(a, b)
		if m != 0 && (m < 0) != (b < 0) {
			m += b
		}
		return m
	}
	return math.Pow(a, b)
}
