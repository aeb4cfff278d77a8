package node

import (
	"slices"
	"strconv"
	"strings"
)

// parseUpkeep reads what the key upkeep asked for; nil if it did not, or the node does
// not say how long it has been up.
func parseUpkeep(s sections) *Upkeep {
	up, err := strconv.ParseFloat(strings.SplitN(s.line("uptime"), " ", 2)[0], 64)
	if err != nil || !(up >= 0 && up < 1<<40) {
		return nil
	}
	_, boot, _ := strings.Cut(s.line("boot-time"), " ")
	u := &Upkeep{Uptime: int64(up), BootTime: seconds(boot)}
	for _, l := range lines(s.ok("loaded-modules")) {
		if l != "" {
			u.Modules = append(u.Modules, l)
		}
	}
	slices.Sort(u.Modules)
	for _, l := range lines(s.text("dated-packages")) {
		w := strings.SplitN(l, " ", 8)
		if len(w) != 8 {
			continue // one that is not installed
		}
		p := parseRPM(strings.Join(w[:5], " "))
		if len(p) != 1 {
			continue
		}
		vendor := strings.TrimSpace(w[7])
		if vendor == "(none)" {
			vendor = ""
		}
		u.Packages = append(u.Packages, DatedPackage{
			Name: p[0].Name, EVR: p[0].EVR, Arch: p[0].Arch, Vendor: vendor, Installed: seconds(w[5]), Built: seconds(w[6]),
		})
	}
	return u
}

// seconds reads Unix seconds; 0 for what are none.
func seconds(s string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}
