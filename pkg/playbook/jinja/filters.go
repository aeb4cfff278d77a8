package jinja

import (
	"encoding/base64"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

var filters map[string]filter

// The table refers to functions that evaluate filters by name, so it cannot be
// an initialised variable.
func init() {
	filters = map[string]filter{
		"default":   {sig: sig("default_value?", "boolean?"), fn: filterDefault, loose: true},
		"mandatory": {sig: sig("msg?"), fn: filterMandatory, loose: true},
		"ternary":   {sig: sig("true_val", "false_val", "none_val?"), fn: filterTernary, loose: true},

		"bool":       {sig: sig(), fn: filterBool},
		"int":        {sig: sig("default?", "base?"), fn: filterInt},
		"float":      {sig: sig("default?"), fn: filterFloat},
		"string":     {sig: sig(), fn: func(c *call) (any, error) { return Text(c.in), useAll(c.in, c.at) }, text: true},
		"abs":        {sig: sig(), fn: filterAbs},
		"round":      {sig: sig("precision?", "method?"), fn: filterRound},
		"type_debug": {sig: sig(), fn: func(c *call) (any, error) { return TypeName(c.in), nil }},

		"lower":      {sig: sig(), fn: onText(strings.ToLower)},
		"upper":      {sig: sig(), fn: onText(strings.ToUpper)},
		"capitalize": {sig: sig(), fn: onText(capitalize)},
		"title":      {sig: sig(), fn: onText(title)},
		"trim":       {sig: sig("chars?"), fn: func(c *call) (any, error) { c.in = Text(c.in); return strip(c, true, true) }},
		"replace":    {sig: sig("old", "new", "count?"), fn: func(c *call) (any, error) { return replace(c, Text(c.in)) }},
		"split":      {sig: sig("sep?", "maxsplit?"), fn: filterSplit},
		"wordcount":  {sig: sig(), fn: filterWordcount},
		"indent":     {sig: sig("width?", "first?", "blank?"), fn: filterIndent},
		"format":     {sig: sig("*"), fn: func(c *call) (any, error) { return formatPercent(Text(c.in), c.args, c.at) }},
		"quote":      {sig: sig(), fn: filterQuote},
		"basename":   {sig: sig(), fn: func(c *call) (any, error) { s := Text(c.in); return s[strings.LastIndexByte(s, '/')+1:], nil }},
		"dirname":    {sig: sig(), fn: filterDirname},
		"splitext":   {sig: sig(), fn: filterSplitext},
		"b64encode":  {sig: sig(), fn: func(c *call) (any, error) { return base64.StdEncoding.EncodeToString([]byte(Text(c.in))), nil }},
		"b64decode":  {sig: sig(), fn: filterB64decode},

		"to_json":      {sig: sig(), fn: func(c *call) (any, error) { return toJSON(c, "") }, text: true},
		"tojson":       {sig: sig(), fn: func(c *call) (any, error) { return toJSON(c, "") }, text: true},
		"to_nice_json": {sig: sig("indent?"), fn: filterNiceJSON, text: true},
		"from_json":    {sig: sig(), fn: filterFromJSON},

		"regex_replace": {sig: sig("pattern?", "replacement?", "ignorecase?", "multiline?"), fn: filterRegexReplace},
		"regex_search":  {sig: sig("ignorecase=", "multiline=", "regex", "*"), fn: filterRegexSearch},
		"regex_findall": {sig: sig("regex", "multiline?", "ignorecase?"), fn: filterRegexFindall},
		"regex_escape":  {sig: sig(), fn: onText(pythonEscape)},

		"first":   {sig: sig(), fn: func(c *call) (any, error) { return edge(c, false) }},
		"last":    {sig: sig(), fn: func(c *call) (any, error) { return edge(c, true) }},
		"length":  {sig: sig(), fn: filterLength},
		"list":    {sig: sig(), fn: func(c *call) (any, error) { return c.list() }},
		"join":    {sig: sig("d?", "attribute?"), fn: filterJoin},
		"sort":    {sig: sig("reverse?", "case_sensitive?", "attribute?"), fn: filterSort},
		"reverse": {sig: sig(), fn: filterReverse},
		"unique":  {sig: sig("case_sensitive?"), fn: filterUnique},
		"min":     {sig: sig("case_sensitive?", "attribute?"), fn: func(c *call) (any, error) { return extreme(c, -1) }},
		"max":     {sig: sig("case_sensitive?", "attribute?"), fn: func(c *call) (any, error) { return extreme(c, 1) }},
		"sum":     {sig: sig("attribute?", "start?"), fn: filterSum},
		"flatten": {sig: sig("levels?", "skip_nulls?"), fn: filterFlatten},
		"zip":     {sig: sig("*"), fn: filterZip},

		"union":                {sig: sig("other"), fn: sets(func(inA, inB bool) bool { return true })},
		"intersect":            {sig: sig("other"), fn: sets(func(inA, inB bool) bool { return inA && inB })},
		"difference":           {sig: sig("other"), fn: sets(func(inA, inB bool) bool { return inA && !inB })},
		"symmetric_difference": {sig: sig("other"), fn: sets(func(inA, inB bool) bool { return inA != inB })},

		"map":        {sig: sig("filter", "*"), fn: filterMap, inner: true},
		"select":     {sig: sig("test?", "*"), fn: func(c *call) (any, error) { return choose(c, "", 0, true) }, inner: true},
		"reject":     {sig: sig("test?", "*"), fn: func(c *call) (any, error) { return choose(c, "", 0, false) }, inner: true},
		"selectattr": {sig: sig("attribute", "test?", "*"), fn: func(c *call) (any, error) { return chooseAttr(c, true) }, inner: true},
		"rejectattr": {sig: sig("attribute", "test?", "*"), fn: func(c *call) (any, error) { return chooseAttr(c, false) }, inner: true},

		"dict2items": {sig: sig("key_name?", "value_name?"), fn: filterDict2items},
		"items2dict": {sig: sig("key_name?", "value_name?"), fn: filterItems2dict},
		"combine":    {sig: sig("recursive=", "*"), fn: filterCombine},
		"extract":    {sig: sig("container", "morekeys?"), fn: filterExtract},
		"subelements": {sig: sig("subelements", "skip_missing?"), fn: func(c *call) (any, error) {
			l, err := SubElements(c.in, c.args[0], c.bool(1, false))
			if err != nil {
				return nil, c.fail("%v", err)
			}
			return l, nil
		}},
		"items":    {sig: sig(), fn: filterItems},
		"dictsort": {sig: sig(), fn: filterDictsort},
	}
	filters["d"] = filters["default"]
	filters["count"] = filters["length"]
}

func filterNames() []string { return slices.Sorted(maps.Keys(filters)) }

// unsupportedFilters are those of Jinja and Ansible that fleetd does not have,
// with the reason where there is one.
var unsupportedFilters = map[string]string{
	"random":        "a plan must come out the same each time it is computed",
	"shuffle":       "a plan must come out the same each time it is computed",
	"password_hash": "fleetd's modules take no secrets",
	"vault":         "fleetd's modules take no secrets",
	"unvault":       "fleetd's modules take no secrets",
	"expandvars":    "fleetd's templates do not read the environment",
	"expanduser":    "fleetd's templates do not read the environment",
	"fileglob":      "fleetd's templates do not read files",
	"realpath":      "fleetd's templates do not read files",
	"relpath":       "fleetd's templates do not read files",
	"strftime":      "the same playbook must give the same plan tomorrow",
	"to_datetime":   "", "to_uuid": "", "from_yaml": "", "from_yaml_all": "", "to_yaml": "", "to_nice_yaml": "",
	"path_join": "join the parts with ~ '/' ~", "win_basename": "", "win_dirname": "", "win_splitdrive": "",
	"md5": "", "sha1": "", "checksum": "", "hash": "", "comment": "",
	"rekey_on_member": "", "human_to_bytes": "", "human_readable": "", "log": "", "pow": "write **", "root": "",
	"permutations": "", "combinations": "", "product": "", "zip_longest": "", "urlsplit": "", "urldecode": "",
	"attr": "write x.name", "batch": "", "center": "", "e": "", "escape": "", "filesizeformat": "", "forceescape": "",
	"groupby": "", "pprint": "", "safe": "", "slice": "write x[a:b]", "striptags": "", "truncate": "", "urlencode": "",
	"urlize": "", "wordwrap": "", "xmlattr": "",
}

func onText(fn func(string) string) func(*call) (any, error) {
	return func(c *call) (any, error) { return fn(Text(c.in)), nil }
}

func filterDefault(c *call) (any, error) {
	if o, ok := c.in.(Opaque); ok && (o.Maybe || c.bool(1, false)) {
		return nil, wrap(c.at, c.name, o.Err)
	}
	_, undefined := c.in.(Undefined)
	if !undefined && (!c.bool(1, false) || Truth(c.in)) {
		return c.in, nil
	}
	if !c.given(0) {
		return "", nil
	}
	return c.args[0], nil
}

func filterMandatory(c *call) (any, error) {
	u, ok := c.in.(Undefined)
	if !ok {
		return c.in, nil
	}
	e := errorAt(u.at, "%q is mandatory and not defined", u.Name)
	e.Undefined = u.Name
	if c.given(0) {
		// The playbook says what to do; nothing is to be added.
		e = errorAt(u.at, "%s", Text(c.args[0]))
	}
	return nil, e
}

func filterTernary(c *call) (any, error) {
	if err := use(c.in, c.at); err != nil {
		return nil, err
	}
	switch {
	case c.in == nil && c.given(2) && c.args[2] != nil:
		return c.args[2], nil
	case Truth(c.in):
		return c.args[0], nil
	}
	return c.args[1], nil
}

// ToBool is Ansible's | bool: only these words and 1 are true.
func ToBool(v any) any {
	switch x := v.(type) {
	case nil, bool:
		return v
	case string:
		return slices.Contains([]string{"yes", "on", "1", "true"}, strings.ToLower(x))
	}
	return Equal(v, int64(1))
}

func filterBool(c *call) (any, error) { return ToBool(c.in), nil }

func filterInt(c *call) (any, error) {
	var def any = int64(0)
	if c.given(0) {
		def = c.args[0]
	}
	base, err := c.int(1, 10)
	if err != nil {
		return nil, err
	}
	switch v := c.in.(type) {
	case bool, int64:
		n, _, _, _ := number(v)
		return n, nil
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) || math.Abs(v) >= 1<<63 {
			return def, nil
		}
		return int64(v), nil
	case string:
		s := strings.ToLower(strings.TrimSpace(v))
		if base == 16 {
			s = strings.TrimPrefix(s, "0x")
		}
		if base == 8 {
			s = strings.TrimPrefix(s, "0o")
		}
		if base != 0 && (base < 2 || base > 36) {
			return nil, c.fail("there is no base %d", base)
		}
		if plain, ok := dropUnderscores(s); ok {
			if n, err := strconv.ParseInt(plain, int(base), 64); err == nil {
				return n, nil
			}
		}
		if f, err := parseFloat(v); err == nil && math.Abs(f) < 1<<63 {
			return int64(f), nil
		}
	}
	return def, nil
}

// dropUnderscores takes out the underscores that Python allows between digits.
func dropUnderscores(s string) (string, bool) {
	if strings.HasPrefix(s, "_") || strings.HasSuffix(s, "_") || strings.Contains(s, "__") {
		return s, false
	}
	return strings.ReplaceAll(s, "_", ""), true
}

func parseFloat(s string) (float64, error) {
	s = strings.TrimSpace(s)
	if strings.HasPrefix(strings.TrimLeft(strings.ToLower(s), "+-"), "0x") {
		return 0, strconv.ErrSyntax
	}
	plain, ok := dropUnderscores(s)
	if !ok {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseFloat(plain, 64)
}

func filterFloat(c *call) (any, error) {
	switch v := c.in.(type) {
	case bool, int64, float64:
		_, f, _, _ := number(v)
		return f, nil
	case string:
		if f, err := parseFloat(v); err == nil {
			return f, nil
		}
	}
	if c.given(0) {
		return c.args[0], nil
	}
	return 0.0, nil
}

func filterAbs(c *call) (any, error) {
	n, f, isInt, ok := number(c.in)
	switch {
	case !ok:
		return nil, c.fail("needs a number, not %s", TypeName(c.in))
	case isInt && n < 0:
		return arithmetic("-", int64(0), n, c.at)
	case isInt:
		return n, nil
	}
	return math.Abs(f), nil
}

func filterRound(c *call) (any, error) {
	n, f, isInt, ok := number(c.in)
	if !ok {
		return nil, c.fail("needs a number, not %s", TypeName(c.in))
	}
	precision, err := c.int(0, 0)
	if err != nil {
		return nil, err
	}
	method, err := c.text(1, "common")
	if err != nil {
		return nil, err
	}
	if precision < 0 || precision > 300 {
		return nil, c.fail("the precision must be between 0 and 300")
	}
	scale := math.Pow(10, float64(precision))
	switch method {
	case "common":
		if isInt {
			return n, nil
		}
		// Round half to even on the exact binary value, as Python does.
		r, err := strconv.ParseFloat(strconv.FormatFloat(f, 'f', int(precision), 64), 64)
		return r, err
	case "ceil":
		return math.Ceil(f*scale) / scale, nil
	case "floor":
		return math.Floor(f*scale) / scale, nil
	}
	return nil, c.fail("method must be common, ceil or floor, not %q", method)
}
