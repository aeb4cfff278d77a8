package ansibletest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"strconv"
	"strings"

	"github.com/fleetd/fleetd/pkg/value"
)

// Canonical is the form in which pkg/yaml/testdata/values.py writes a value: it
// tells types and the order of keys.
func Canonical(v any) string {
	switch v := v.(type) {
	case nil:
		return "~"
	case bool:
		return value.Repr(v)
	case int64:
		return "i" + strconv.FormatInt(v, 10)
	case *big.Int:
		return "i" + v.String()
	case float64:
		return "f" + value.Float(v)
	case string:
		return "s" + quoted(v)
	case value.Unsafe:
		return "u" + quoted(string(v))
	case value.Binary:
		return "b" + hex.EncodeToString([]byte(v))
	case value.Timestamp:
		return "d" + v.ISO
	case []any:
		return list(v)
	case value.Tuple:
		return list(v)
	case *value.Map:
		parts := make([]string, 0, v.Len())
		for k, x := range v.All() {
			parts = append(parts, Canonical(k)+"="+Canonical(x))
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	return "?"
}

func list(items []any) string {
	parts := make([]string, len(items))
	for i, x := range items {
		parts[i] = Canonical(x)
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// quoted is a string as Python's json module writes it.
func quoted(s string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return err.Error()
	}
	out := strings.TrimSuffix(b.String(), "\n")
	// encoding/json escapes two more.
	return strings.NewReplacer(`\u2028`, "\u2028", `\u2029`, "\u2029").Replace(out)
}
