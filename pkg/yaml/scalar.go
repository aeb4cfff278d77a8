package yaml

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
)

// scalar is a scalar's value, hidden if the file is encrypted.
func (r *Reader) scalar(n *Node) (any, error) {
	v, err := r.bare(n)
	if err == nil && r.doc.Source.Secret {
		v = value.Conceal(v, r.place(n))
	}
	return v, err
}

// bare is a scalar's value, whatever file it stands in.
func (r *Reader) bare(n *Node) (any, error) {
	t := tag(n)
	switch t {
	case "":
		if !plain(n) {
			return n.Value, nil
		}
		return r.plainScalar(n)
	case "!!str":
		return n.Value, nil
	case "!unsafe":
		return value.Unsafe(n.Value), nil
	case "!vault", "!vault-encrypted":
		if r.opts.Vault == nil {
			return nil, r.Errorf(n, "Put the value into the inventory's group_vars or host_vars.", "vault values are not read here")
		}
		return r.opts.Vault(n.Value, r.place(n)), nil
	case "!!null":
		return nil, nil
	case "!!bool":
		if b, ok := plainBool(strings.ToLower(n.Value)); ok {
			return b, nil
		}
	case "!!int":
		if v, ok := constructInt(n.Value); ok {
			return v, nil
		}
	case "!!float":
		if v, ok := constructFloat(n.Value); ok {
			return v, nil
		}
	case "!!timestamp":
		if v, ok := constructTimestamp(n.Value); ok {
			return v, nil
		}
	case "!!binary":
		raw, err := base64.StdEncoding.DecodeString(strings.Map(dropSpace, n.Value))
		if err == nil {
			return value.Binary(raw), nil
		}
	default:
		return nil, r.badTag(n)
	}
	return nil, r.Errorf(n, "Correct the value, or take the tag away.", "%q is not a value of type %s", r.doc.Source.Clip(n.Value), t)
}

func (r *Reader) badTag(n *Node) error {
	return r.Errorf(n, "Known tags are !vault, !unsafe and those of YAML itself (!!str, !!int, …).", "the tag %s is not known", r.doc.Source.Clip(n.Tag))
}

func (r *Reader) plainScalar(n *Node) (any, error) {
	v, isString, ok := resolvePlain(n.Value)
	switch {
	case isString:
		return n.Value, nil
	case ok:
		return v, nil
	}
	shown := r.doc.Source.Clip(n.Value)
	return nil, r.Errorf(n, fmt.Sprintf("Quote it if a string is meant: %q.", shown), "%s looks like a number or a date but is none", shown)
}

// Scalar is the value of a scalar by itself: its text, where that is no value.
func Scalar(n *Node) any {
	r := (&Document{Source: &text.Source{}}).Reader(Options{})
	v, err := r.bare(n)
	if err != nil {
		return n.Value
	}
	return v
}

func dropSpace(r rune) rune {
	if r == ' ' || r == '\n' || r == '\t' || r == '\r' {
		return -1
	}
	return r
}
