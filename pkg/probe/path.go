package probe

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

// Kind is what stands at the end of a path.
type Kind string

const (
	ClusterIP    Kind = "ClusterIP"
	NodePort     Kind = "NodePort"
	LoadBalancer Kind = "LoadBalancer"
	Pod          Kind = "Pod"
	// Via is a NodePort of another node than the one that asks.
	Via Kind = "NodePort-via"
	// Given is an address that a person has named.
	Given Kind = "Given"
)

// Protocol is how a path is asked.
type Protocol string

const (
	TCP    Protocol = "tcp" // a connection
	HTTP   Protocol = "http"
	HTTPS  Protocol = "https"
	DNSUDP Protocol = "dns-udp"
	DNSTCP Protocol = "dns-tcp"
	// HTTPClient is HTTP where the answer holds the address of the client.
	HTTPClient Protocol = "http-client"
	// DNSOpen and HTTPOpen ask on one connection that stays open.
	DNSOpen  Protocol = "dns-open"
	HTTPOpen Protocol = "http-open"
)

var (
	kinds     = []Kind{ClusterIP, NodePort, LoadBalancer, Pod, Via, Given}
	protocols = []Protocol{TCP, HTTP, HTTPS, DNSUDP, DNSTCP, HTTPClient, DNSOpen, HTTPOpen}
)

// Open reports whether it is one connection that is kept.
func (p Protocol) Open() bool { return p == DNSOpen || p == HTTPOpen }

// Path is one way to a Service.
type Path struct {
	// Name is the Service's, "kube-system/kube-dns", or what a person has named.
	Name     string   `json:"name"`
	Kind     Kind     `json:"kind"`
	Protocol Protocol `json:"protocol"`
	// Address is an IP address, or a name for a path that is Given. Where it is
	// empty it is found when the run comes to it: the address of a node, or of a pod.
	Address string `json:"address,omitempty"`
	Port    int    `json:"port"`
	// URL is what is fetched; "" where it is no HTTP.
	URL string `json:"url,omitempty"`
}

// At is the path at an address that was found.
func (p Path) At(address string) Path {
	p.Address = address
	if p.Protocol == HTTPS {
		p.URL = "https://" + net.JoinHostPort(address, strconv.Itoa(p.Port)) + "/"
	}
	return p
}

// String names it for a person.
func (p Path) String() string {
	if p.Kind == Given {
		return p.place()
	}
	return fmt.Sprintf("%s (%s)", p.place(), p.Protocol)
}

// place is the path without its protocol.
func (p Path) place() string {
	kind, at := p.Kind, "port "+strconv.Itoa(p.Port)
	switch {
	case p.Kind == Given:
		return p.Name
	case p.Address != "":
		at = net.JoinHostPort(p.Address, strconv.Itoa(p.Port))
	}
	if p.Kind == Via {
		kind, at = NodePort, at+" of another node"
	}
	return fmt.Sprintf("%s %s %s", kind, p.Name, at)
}

// Names names paths for a person, those that differ in their protocol together.
func Names(paths []Path) string {
	var out []string
	for i := 0; i < len(paths); {
		place, protocols := paths[i].place(), []string{}
		given := paths[i].Kind == Given
		for ; i < len(paths) && paths[i].place() == place; i++ {
			protocols = append(protocols, string(paths[i].Protocol))
		}
		if !given {
			place += " (" + strings.Join(protocols, ", ") + ")"
		}
		out = append(out, place)
	}
	return strings.Join(out, ", ")
}

// line is the path as the scripts read it: no word holds a space, since each was
// parsed from something that cannot.
func (p Path) line() string {
	return strings.Join([]string{string(p.Kind), string(p.Protocol), p.Address, strconv.Itoa(p.Port), cmp.Or(p.URL, "-"), p.Name}, " ")
}

// ofGiven reads what a person names: http://host[:port]/path, https://…,
// tcp://host:port, dns://address[:port]. With #client behind it, the answer is
// looked through for the client's address.
func ofGiven(text string) ([]Path, error) {
	bad := func(why string) ([]Path, error) {
		return nil, fmt.Errorf("%q cannot be probed: %s; it takes http://HOST[:PORT]/PATH (with #client behind it where the answer holds the client's address), https://…, tcp://HOST:PORT or dns://ADDRESS[:PORT]", text, why)
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil || len(text) > mostWord || strings.ContainsFunc(text, unicode.IsSpace) {
		return bad("it is no URL of a host")
	}
	_, noAddress := netip.ParseAddr(u.Hostname())
	if u.Scheme == "dns" && noAddress != nil {
		return bad("who serves names has to be named by an address")
	}
	if noAddress != nil && strings.Trim(strings.ToLower(u.Hostname()), "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" {
		return bad("its host is neither an address nor a name")
	}
	client := u.Fragment == "client"
	if u.Fragment != "" && (!client || u.Scheme != string(HTTP)) {
		return bad("what is behind # is not known there")
	}
	u.Fragment = ""
	p := Path{Name: text, Kind: Given, Address: u.Hostname()}
	ports := map[string]int{"http": 80, "https": 443, "dns": 53, "tcp": 0}
	port, known := ports[u.Scheme]
	if !known {
		return bad("its protocol is not known")
	}
	if u.Port() != "" {
		if port, err = strconv.Atoi(u.Port()); err != nil {
			return bad("its port is no number")
		}
	}
	if port < 1 || port > 65535 {
		return bad("it has no TCP port")
	}
	p.Port = port
	as := func(proto Protocol) Path {
		q := p
		q.Protocol = proto
		if strings.HasPrefix(string(proto), "http") {
			q.URL = u.String()
		}
		return q
	}
	switch {
	case u.Scheme == "dns":
		return []Path{as(DNSUDP), as(DNSTCP), as(DNSOpen)}, nil
	case client:
		return []Path{as(HTTPClient), as(HTTPOpen)}, nil
	case u.Scheme == "http":
		return []Path{as(HTTP), as(HTTPOpen)}, nil
	}
	return []Path{as(Protocol(u.Scheme))}, nil
}

// mostGiven bounds what persons may name: each path is a process on every node.
const mostGiven = 20

// OfGiven reads what persons name.
func OfGiven(texts []string) ([]Path, error) {
	if len(texts) > mostGiven {
		return nil, fmt.Errorf("%d paths are to be probed; at most %d are, since each is a process on every node", len(texts), mostGiven)
	}
	var out []Path
	for _, t := range texts {
		paths, err := ofGiven(t)
		if err != nil {
			return nil, err
		}
		out = append(out, paths...)
	}
	return out, nil
}
