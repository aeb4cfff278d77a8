//go:build tools

// Package tools pins the Tigera operator (v1.36.5 rolls out Calico 3.29.2).
//
// Replace lines of a dependency do not count for the main module, so the
// operator's own are repeated in go.mod here.
package tools

import _ "github.com/tigera/operator"
