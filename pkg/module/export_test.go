package module

// The parsers, for their tests.
var (
	ModeOf     = modeOf
	ParseBelow = parseBelow
	Spaced     = spaced
)
