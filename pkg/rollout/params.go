package rollout

// Params declares the parameters of a module, by name. The playbook compiler
// refuses a task that names another, leaves out a required one, or gives a
// value of another type.
type Params map[string]Param

// AnyName stands in Params for every name that is not declared, as with set_fact.
const AnyName = "*"

// Param is one parameter.
type Param struct {
	Type     ParamType
	Required bool
	// FreeForm is set for the one that takes what stands behind the module's name
	// on its line ("command: uptime").
	FreeForm bool
	// Choices, if any, are the only strings allowed.
	Choices []string
	// Folder is where the file of a File or Template is looked for, beside the
	// playbook. Remote names a parameter of the type Bool: where it is true, the file
	// is one of the node, and the value a String.
	Folder, Remote string
	// Tree is set where it may be a folder, too, and what is in it is meant.
	Tree bool
	// Line is set where the value is a command line, the first word of which names
	// the file.
	Line bool
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
	// File names a file of the bastion, which reaches the module as a LocalFile.
	File ParamType = "file"
	// Template is a File that is a template: what it prints is the content.
	Template ParamType = "template"
	// Any is a value as it is.
	Any ParamType = "any"
	// Expression is an expression without braces; its value reaches the module
	// with the expression's text, as an Evaluated.
	Expression ParamType = "expression"
	// Conditions is an expression that is true or false, or a list of them; they
	// reach the module as a list of Evaluated.
	Conditions ParamType = "conditions"
	// Environment are variables for the environment of a command, by name; they
	// reach the module as a map[string]any of texts.
	Environment ParamType = "environment"
)

// EnvironmentParam is the parameter that takes the keyword environment. No task can
// write it as one.
const EnvironmentParam = "(environment)"

// Evaluated is an expression of a playbook and its value, in the language of
// encoding/json.
type Evaluated struct {
	Text  string `json:"text"`
	Value any    `json:"value"`
}

// LocalFile is a file of the bastion. Only its content is used in the run.
type LocalFile struct {
	// Name is how the task names it, Path where it was found.
	Name string
	Path string
	// Mode are its permission bits, in octal.
	Mode    string
	Content []byte
	// Args is what stands behind the name on its line.
	Args string
	// Dir is set for a folder. Tree is what is below it: files, each named by its path
	// from there, and folders in which there is nothing.
	Dir  bool
	Tree []LocalFile
}

// The parameters beside a Template by which it is read.
const (
	TrimBlocks      = "trim_blocks"
	LstripBlocks    = "lstrip_blocks"
	NewlineSequence = "newline_sequence"
)
