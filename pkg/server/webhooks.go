package server

import (
	"os"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/notify"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/yaml"
)

// mostTemplate bounds a template, in bytes.
const mostTemplate = 64 << 10

// webhook reads one of the configuration. Its template, its secrets and its authority
// are tried, so that what is wrong is known before there is something to tell.
func (d *decoder) webhook(n *yaml.Node, c *Config) {
	w := notify.Webhook{}
	w.Format, _ = notify.Shipped("json")
	var url, format, template *yaml.Node
	before := len(d.errs)
	d.mapping(n, map[string]func(*yaml.Node){
		"name": func(n *yaml.Node) { d.name(n, &w.Name) },
		"url":  func(n *yaml.Node) { d.text(n, &w.URL); url = n },
		"url_file": func(n *yaml.Node) {
			if d.secret(n, &w.URLFile) {
				url = n
			}
		},
		"token_file": func(n *yaml.Node) { d.secret(n, &w.TokenFile) },
		"authority":  func(n *yaml.Node) { d.file(n, &w.Authority) },
		"format": func(n *yaml.Node) {
			var name string
			var ok bool
			if format = n; d.text(n, &name) {
				if w.Format, ok = notify.Shipped(name); !ok {
					d.errorf(n, "There are json, slack and alertmanager; template names a file of your own.", "there is no format %q", text.Clip(name))
				}
			}
		},
		"template": func(n *yaml.Node) { template = n; d.template(n, &w.Format) },
		"events":   func(n *yaml.Node) { d.events(n, &w.Events) },
	})
	if len(d.errs) > before {
		return
	}
	switch {
	case w.Name == "" || (w.URL == "") == (w.URLFile == ""):
		d.errorf(n, "Where whoever knows the address may post, as Slack's, url_file keeps it out of this file.", "a webhook needs name, and either url or url_file")
		return
	case format != nil && template != nil:
		d.errorf(template, "Leave out one of them.", "a webhook has format or template")
		return
	}
	address := w.URL
	if w.URLFile != "" {
		var err error
		if address, err = notify.Secret(w.URLFile); err != nil {
			d.errorf(url, "", "%v", err)
			return
		}
	}
	if err := notify.CheckURL(address, w.TokenFile != ""); err != nil {
		d.errorf(url, "", "the address cannot be used: %v", err)
	}
	if _, err := notify.NewSender(&w); err != nil {
		d.errorf(n, "authority is a file in PEM.", "%v", err)
	}
	if slices.ContainsFunc(c.Webhooks, func(o notify.Webhook) bool { return o.Name == w.Name }) {
		d.errorf(n, "Give each its own: the journal tells by it what waits for which.", "there are two webhooks of the name %s", w.Name)
	}
	c.Webhooks = append(c.Webhooks, w)
}

// secret takes the name of a file that holds one line, which nobody else may read.
func (d *decoder) secret(n *yaml.Node, into *string) bool {
	before := len(d.errs)
	if d.file(n, into); len(d.errs) > before {
		return false
	}
	info, err := os.Stat(*into)
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		d.errorf(n, "chmod 600 "+*into, "others may read %s, which holds a secret", *into)
		return false
	}
	if _, err = notify.Secret(*into); err != nil {
		d.errorf(n, "Put the secret into it, and nothing else.", "%v", err)
	}
	return err == nil
}

// template reads a file, and tries it on events of each kind.
func (d *decoder) template(n *yaml.Node, into *notify.Format) {
	var file string
	before := len(d.errs)
	if d.file(n, &file); len(d.errs) > before {
		return
	}
	raw, err := os.ReadFile(file)
	if err == nil && len(raw) > mostTemplate {
		d.errorf(n, "", "%s is larger than %d bytes", file, mostTemplate)
		return
	}
	if err == nil {
		*into, err = notify.ParseFormat(file, string(raw))
	}
	if err != nil {
		d.errorf(n, "It is a template of Go's text/template that writes JSON; {{json .}} writes all there is.", "the template does not work: %v", err)
	}
}

func (d *decoder) events(n *yaml.Node, into *[]notify.Kind) {
	*into = []notify.Kind{}
	var known []string
	for _, k := range notify.Kinds() {
		known = append(known, string(k))
	}
	d.list(n, func(n *yaml.Node) {
		var s string
		if !d.text(n, &s) {
			return
		}
		if !slices.Contains(known, s) {
			d.errorf(n, "There are "+strings.Join(known, ", ")+".", "there is no event %q", text.Clip(s))
		}
		*into = append(*into, notify.Kind(s))
	})
}
