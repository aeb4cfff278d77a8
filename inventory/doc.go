// Package inventory reads Ansible inventories exactly as Ansible reads them.
//
// It turns bytes into values: a file system (fs.FS), the sources a person
// would give to -i, and Options go in; hosts, groups and fully merged
// variables come out. The oracle is ansible-inventory of ansible-core 2.14;
// where the two differ on purpose, docs/ansible-differences.md says so and
// why.
//
// The package knows nothing of SSH, Kubernetes or the command line. It opens
// files only through the fs.FS, runs nothing by itself (an executable source
// is run by the function given in Options) and reads no environment
// variables. Package inventory/local is the bridge to the machine one sits at.
//
// What is refused: a source that no reader understands is an error here,
// whereas Ansible warns and goes on with fewer hosts. Every such error is an
// *Error, with file, line, column, the text and what would be right.
//
// Inventory is read only after Load, and safe for use by many goroutines.
package inventory
