package pattern

import (
	"regexp"
	"strconv"
	"sync"
)

// The grammar of addresses, host names and ranges is that of Ansible 2.14's
// ansible.parsing.utils.addresses.
const (
	step     = `(?::[0-9]+)?`
	numbers  = `\[[0-9]+:[0-9]+` + step + `\]`
	letters  = `\[[a-zA-Z]:[a-zA-Z]` + step + `\]`
	octet    = `(?:` + numbers + `|[01]?[0-9]{1,2}|2[0-4][0-9]|25[0-5])`
	hextet   = `(?:\[[0-9a-fA-F]+:[0-9a-fA-F]+` + step + `\]|[0-9a-fA-F]{1,4})`
	mapped   = hextet + `(?:\.` + hextet + `){3}`
	alnum    = `\p{L}\p{N}`
	labelEnd = `(?:` + numbers + `|` + letters + `|[` + alnum + `])`
	label    = `(?:` + labelEnd + `|(?:` + numbers + `|` + letters + `|[` + alnum + `_])(?:` + numbers + `|` + letters + `|[` + alnum + `_-])*` + labelEnd + `)`
)

// They are compiled when the first odd name is met: most inventories have none,
// and compiling them takes a tenth of fleetd's start.
var (
	ipv4 = lazily(`^(?:` + octet + `\.){3}` + octet + `$`)
	// As generous as Ansible's, which takes whatever begins like an address:
	// fe80::1%eth0 passes.
	ipv6     = lazily(`^(?:::|(?:` + hextet + `:){1,6}:|(?:` + hextet + `:){7}` + hextet + `|(?:0:){6}` + mapped + `|(?:0:){5}[fF]{4}:` + mapped + `)`)
	hostname = lazily(`^` + label + `(?:\.` + label + `)*$`)

	bracketed = lazily(`(?s)^\[(.+)\]:([0-9]+)$`)
	withPort  = lazily(`^((?:[^:\[\]]|\[[^\]]*\])*):([0-9]+)$`)
)

func lazily(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}

// SplitAddress takes an optional port off a host or host range. ok is false
// if what remains is no host name, range or address in Ansible's eyes; then
// nothing may be taken off.
func SplitAddress(s string) (host string, port int, ok bool) {
	host = s
	// One after the other: Ansible looks for a port again in what the brackets
	// held, so that [1:3]:22 is host 1, port 3.
	for _, form := range []func() *regexp.Regexp{bracketed, withPort} {
		if m := form().FindStringSubmatch(host); m != nil {
			if n, err := strconv.Atoi(m[2]); err == nil {
				host, port = m[1], n
			}
		}
	}
	return host, port, ipv4().MatchString(host) || ipv6().MatchString(host) || hostname().MatchString(host)
}
