package server

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/notify"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/yaml"
)

// Config is what a configuration file says.
type Config struct {
	// Listen is address:port.
	Listen string
	// Hosts are names by which the server is reached, beside its address.
	Hosts []string
	// State is the folder of the journal; "" = the default one.
	State string
	// Certificate and Key are files in PEM; ClientAuthority is one with the
	// authorities whose clients alone are let in. "" = none.
	Certificate, Key, ClientAuthority string
	Tokens                            []Token
	Fleets                            []Fleet
	// Webhooks are told of what happens.
	Webhooks []notify.Webhook
}

// DefaultListen is where the server listens if nothing else is said.
const DefaultListen = "127.0.0.1:8420"

// ReadConfig reads a configuration file. Its error names every wrong place of the
// file at once. Names of files in it are relative to the folder that it is in; builtin
// are playbooks that need not be there.
func ReadConfig(file string, builtin []string) (Config, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return Config{}, fmt.Errorf("cannot read the configuration: %w", err)
	}
	return parseConfig(file, string(raw), builtin)
}

func parseConfig(file, data string, builtin []string) (Config, error) {
	c := Config{Listen: DefaultListen}
	src := &text.Source{Name: file, Data: data}
	doc, err := yaml.Parse(src, yaml.Limits{Depth: 20, Expansion: 1000})
	if err != nil {
		return Config{}, err
	}
	d := decoder{src: src, dir: filepath.Dir(file), builtin: builtin}
	if doc.Root != nil {
		d.mapping(doc.Root, c.fields(&d))
		d.whole(doc.Root, &c)
	}
	return c, errors.Join(d.errs...)
}

func (c *Config) fields(d *decoder) map[string]func(*yaml.Node) {
	return map[string]func(*yaml.Node){
		"listen": func(n *yaml.Node) { d.listen(n, &c.Listen) },
		"hosts":  func(n *yaml.Node) { d.texts(n, &c.Hosts) },
		"state":  func(n *yaml.Node) { d.path(n, &c.State) },
		"tls": func(n *yaml.Node) {
			d.mapping(n, map[string]func(*yaml.Node){
				"certificate":      func(n *yaml.Node) { d.file(n, &c.Certificate) },
				"key":              func(n *yaml.Node) { d.file(n, &c.Key) },
				"client_authority": func(n *yaml.Node) { d.file(n, &c.ClientAuthority) },
			})
			if (c.Certificate == "") != (c.Key == "") || c.Certificate == "" {
				d.errorf(n, "Give both files, in PEM.", "tls needs certificate and key")
			}
		},
		"tokens": func(n *yaml.Node) { d.list(n, func(n *yaml.Node) { d.token(n, c) }) },
		"fleets": func(n *yaml.Node) { d.list(n, func(n *yaml.Node) { d.fleet(n, c) }) },

		"webhooks": func(n *yaml.Node) { d.list(n, func(n *yaml.Node) { d.webhook(n, c) }) },
	}
}

// whole checks what single values cannot say.
func (d *decoder) whole(n *yaml.Node, c *Config) {
	if missing := c.lacks(c.Listen); len(missing) > 0 && !d.failed["listen"] {
		at := cmp.Or(d.at["listen"], n)
		d.errorf(at, "Add what is missing, or listen on "+DefaultListen+" and come through ssh -L 8420:"+DefaultListen+".",
			"listening on %s, which others reach, needs %s", c.Listen, strings.Join(missing, " and "))
	}
}

// lacks are the keys that are missing for listening on address, which others may reach.
func (c *Config) lacks(address string) (missing []string) {
	if loopback(address) {
		return nil
	}
	if c.Certificate == "" {
		missing = append(missing, "tls")
	}
	if len(c.Tokens) == 0 {
		missing = append(missing, "tokens")
	}
	return missing
}

// loopback reports whether an address is reached from this machine alone.
func loopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

func (d *decoder) listen(n *yaml.Node, into *string) {
	var s string
	if !d.text(n, &s) {
		d.failed["listen"] = true
		return
	}
	if host, port, err := net.SplitHostPort(s); err != nil || host == "" || port == "" {
		d.failed["listen"] = true
		d.errorf(n, "Write it as "+DefaultListen+", or [::1]:8420.", "listen is address:port, not %q", text.Clip(s))
		return
	}
	*into, d.at["listen"] = s, n
}

var (
	nameForm   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

func (d *decoder) name(n *yaml.Node, into *string) {
	if d.text(n, into) && !nameForm.MatchString(*into) {
		d.errorf(n, "Letters, digits, dots, hyphens and underscores, at most 63.", "%q is no name", text.Clip(*into))
	}
}

func (d *decoder) token(n *yaml.Node, c *Config) {
	var t Token
	var digest string
	before := len(d.errs)
	d.mapping(n, map[string]func(*yaml.Node){
		"name": func(n *yaml.Node) { d.name(n, &t.Name) },
		"roles": func(n *yaml.Node) {
			d.list(n, func(n *yaml.Node) {
				var name string
				if !d.text(n, &name) {
					return
				}
				role, err := ParseRole(name)
				if err != nil {
					message, hint, _ := strings.Cut(err.Error(), "\n")
					d.errorf(n, hint, "%s", message)
				}
				t.Roles = append(t.Roles, role)
			})
		},
		"sha256": func(n *yaml.Node) {
			if d.text(n, &digest) && !digestForm.MatchString(digest) {
				d.errorf(n, "fleetd serve token NAME makes a token, and the lines for this file.", "sha256 is the SHA-256 of a token: 64 digits of 0-9a-f")
			}
		},
	})
	if len(d.errs) > before {
		return
	}
	if t.Name == "" || len(t.Roles) == 0 || digest == "" {
		d.errorf(n, "fleetd serve token NAME makes a token, and the lines for this file.", "a token needs name, roles and sha256")
		return
	}
	raw, _ := hex.DecodeString(digest) // its form is checked
	t.Sum = [sha256.Size]byte(raw)
	for _, other := range c.Tokens {
		if other.Name == t.Name {
			d.errorf(n, "Give each its own: the audit log tells people apart by it.", "there are two tokens of the name %s", t.Name)
		}
	}
	c.Tokens = append(c.Tokens, t)
}

func (d *decoder) fleet(n *yaml.Node, c *Config) {
	var f Fleet
	var schedule, reserve *yaml.Node
	var windows []windowNode
	var times string
	zone := time.Local
	before := len(d.errs)
	d.mapping(n, map[string]func(*yaml.Node){
		"name":       func(n *yaml.Node) { d.name(n, &f.Name) },
		"inventory":  func(n *yaml.Node) { d.file(n, &f.Inventory) },
		"playbook":   func(n *yaml.Node) { d.playbook(n, &f.Playbook) },
		"policy":     func(n *yaml.Node) { d.file(n, &f.Policy) },
		"kubeconfig": func(n *yaml.Node) { d.file(n, &f.Kubeconfig) },
		"schedule": func(n *yaml.Node) {
			if d.text(n, &times) {
				schedule = n
			}
		},
		"windows": func(n *yaml.Node) {
			d.list(n, func(n *yaml.Node) { windows = append(windows, d.window(n)) })
		},
		"reserve": func(n *yaml.Node) {
			reserve = n
			d.duration(n, &f.Reserve)
		},
		"time_zone": func(n *yaml.Node) {
			var name string
			if !d.text(n, &name) {
				return
			}
			var err error
			if zone, err = time.LoadLocation(name); err != nil {
				d.errorf(n, "Write it as Europe/Berlin, or UTC.", "there is no time zone %q", text.Clip(name))
				zone = time.UTC
			}
		},
	})
	if schedule != nil {
		var err error
		if f.Times, err = ParseTimes(times, zone); err != nil {
			d.errorf(schedule, `Minute, hour, day of the month, month, day of the week: "0 6 * * *" is at six each day; or @daily.`, "no schedule: %v", err)
		}
	}
	if len(d.errs) > before {
		return
	}
	d.windows(&f, windows, reserve, zone)
	if len(d.errs) > before {
		return
	}
	if f.Name == "" || f.Inventory == "" || schedule == nil {
		d.errorf(n, "", "a fleet needs name, inventory and schedule")
		return
	}
	for _, other := range c.Fleets {
		if other.Name == f.Name {
			d.errorf(n, "Give each its own: the journal tells by it what was missed.", "there are two fleets of the name %s", f.Name)
		}
	}
	c.Fleets = append(c.Fleets, f)
}

// playbook takes the name of a file that can be read, or of a playbook that fleetd
// brings.
func (d *decoder) playbook(n *yaml.Node, into *string) {
	var name string
	if !d.text(n, &name) {
		return
	}
	if _, err := os.Stat(d.absolute(name)); err != nil && slices.Contains(d.builtin, name) {
		*into = name
		return
	}
	d.file(n, into)
}

// decoder collects what a file says, and everything that is wrong with it.
type decoder struct {
	src     *text.Source
	dir     string
	builtin []string
	errs    []error
	failed  map[string]bool
	at      map[string]*yaml.Node
}

func (d *decoder) errorf(n *yaml.Node, hint, format string, args ...any) {
	d.errs = append(d.errs, d.src.Errorf(n.Line, n.Column, hint, format, args...))
}

// mapping calls the function of each key with its value.
func (d *decoder) mapping(n *yaml.Node, fields map[string]func(*yaml.Node)) {
	if d.failed == nil {
		d.failed, d.at = map[string]bool{}, map[string]*yaml.Node{}
	}
	known := strings.Join(slices.Sorted(maps.Keys(fields)), ", ")
	n = yaml.Resolve(n)
	if n.Kind != yaml.MappingNode {
		d.errorf(n, "The keys are "+known+".", "a mapping belongs here")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		f, ok := fields[key.Value]
		switch {
		case !ok:
			d.errorf(key, "The keys are "+known+".", "there is no key %q here", text.Clip(key.Value))
		case seen[key.Value]:
			d.errorf(key, "Keep one of them.", "%s is there twice", key.Value)
		default:
			f(value)
		}
		seen[key.Value] = true
	}
}

func (d *decoder) list(n *yaml.Node, f func(*yaml.Node)) {
	n = yaml.Resolve(n)
	if n.Kind != yaml.SequenceNode {
		d.errorf(n, "Begin each item with a hyphen.", "a list belongs here")
		return
	}
	for _, x := range n.Content {
		f(x)
	}
}

func (d *decoder) texts(n *yaml.Node, into *[]string) {
	d.list(n, func(n *yaml.Node) {
		var s string
		if d.text(n, &s) {
			*into = append(*into, s)
		}
	})
}

// text takes a text that is not empty.
func (d *decoder) text(n *yaml.Node, into *string) bool {
	n = yaml.Resolve(n)
	if n.Kind != yaml.ScalarNode || n.Value == "" || n.Tag == "!!null" {
		d.errorf(n, "", "a text belongs here")
		return false
	}
	*into = n.Value
	return true
}

// path takes the name of a file or folder that need not be there.
func (d *decoder) path(n *yaml.Node, into *string) bool {
	if !d.text(n, into) {
		return false
	}
	*into = d.absolute(*into)
	return true
}

// file takes the name of a file that can be read.
func (d *decoder) file(n *yaml.Node, into *string) {
	if !d.path(n, into) {
		return
	}
	f, err := os.Open(*into)
	if err != nil {
		d.errorf(n, "", "%v", err)
		return
	}
	_ = f.Close() // nothing was written
}

func (d *decoder) absolute(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(d.dir, name)
}
