// Package jinja evaluates Jinja2 expressions and templates as Ansible's
// default templating does (ansible-core up to 2.18, jinja2_native off): the
// same precedence, the same truth, the same text of a value, the same filters.
//
// It is written for fleetd because a template decides what happens on a
// production node, so "nearly Jinja2" will not do: an engine that answers
// 'a' in x | default([]) with the list, or 1 == 1.0 with false, answers
// wrongly without saying so. The tests hold this package against what Ansible
// itself answers.
//
// Rules:
//   - Undefined is a value: it may pass through default, mandatory, ternary and
//     "is defined"; any other use of it is an *Error that names the variable.
//   - A filter, test, function, method or statement that is not supported is an
//     *Error from Parse, before anything is evaluated.
//   - Nothing here reads a file, the environment, the clock or chance, so the
//     same template gives the same answer in plan and in apply.
//   - Dictionaries iterate in the order in which their keys were set first, as
//     Python's do.
//
// Values are nil, bool, int64, float64, string, value.Timestamp, []any and
// *value.Map, and what a Scope hands in as Mapping or Opaque.
package jinja
