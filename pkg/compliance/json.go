package compliance

import (
	"encoding/json"
	"io"
)

// JSON writes the report, or a diff, as it is.
func JSON(w io.Writer, r *Report) error { return indented(w, r) }

// JSON writes the diff as it is.
func (d *Diff) JSON(w io.Writer) error { return indented(w, d) }

func indented(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
