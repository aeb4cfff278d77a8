package rollout

// Params declares the parameters of a module, by name. The playbook compiler
// refuses a task that names another, leaves out a required one, or gives a
// value of another type.
type Params map[string]Param

// Param is one parameter.
type Param struct {
	Type     ParamType
	Required bool
	// Choices, if any, are the only strings allowed.
	Choices []string
	// Help is one line for `fleetd doc` and for error messages.
	Help string
}

// ParamType is the type of a parameter's value once its template is resolved.
type ParamType string

const (
	String ParamType = "string"
	Bool   ParamType = "bool"
	Int    ParamType = "int"
	// Duration is a Go duration ("10m") or, as Ansible's timeouts, a number of
	// seconds; it reaches the module as a string that time.ParseDuration takes.
	Duration ParamType = "duration"
	// Strings is a list of strings; a single string is taken as a list of one.
	Strings ParamType = "list"
)
