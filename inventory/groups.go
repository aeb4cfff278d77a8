package inventory

import (
	"strings"

	"github.com/fleetd/fleetd/pkg/text"
)

// link makes c a child of p.
func (d *data) link(p, c *group) error {
	if p == c {
		return text.Advise("Take it off its own list of children.", "group %s cannot be its own child", p.name)
	}
	for _, x := range p.children {
		if x == c {
			return nil
		}
	}
	if path := pathUp(p, c); path != nil {
		return text.Advise("Take one group of the circle off its parent's children.", "group %s cannot be a child of %s: that closes a circle (%s)", c.name, p.name, circle(c, path))
	}
	p.children = append(p.children, c)
	c.parents = append(c.parents, p)
	c.depth = max(p.depth+1, c.depth)
	// Every group knows its ancestors: a chain of n groups takes n² places.
	if deepest := c.deepen(); deepest > d.limits.Depth {
		return text.Advise("Take groups out of the chain, or name the inner ones below all.", "groups are nested too deeply, more than %d levels", d.limits.Depth)
	}
	return nil
}

// deepen carries a group's depth down. Depth decides which group's variables
// win, so the walk is level by level as Ansible's, not a longest path. It
// returns the greatest depth it came to.
func (g *group) deepen() int {
	depth := g.depth
	deepest := depth
	level := g.children
	for len(level) > 0 {
		depth++
		var next []*group
		seen := map[*group]bool{}
		for _, c := range level {
			if c.depth < depth {
				c.depth, deepest = depth, depth
				for _, x := range c.children {
					if !seen[x] {
						seen[x] = true
						next = append(next, x)
					}
				}
			}
		}
		level = next
	}
	return deepest
}

// pathUp finds target among from's ancestors (or from itself) and returns the
// groups on the way, from first.
func pathUp(from, target *group) []*group {
	came := map[*group]*group{from: nil}
	queue := []*group{from}
	for len(queue) > 0 {
		g := queue[0]
		queue = queue[1:]
		if g == target {
			var path []*group
			for x := g; x != nil; x = came[x] {
				path = append(path, x)
			}
			return path // target … from
		}
		for _, p := range g.parents {
			if _, ok := came[p]; !ok {
				came[p] = g
				queue = append(queue, p)
			}
		}
	}
	return nil
}

func circle(c *group, path []*group) string {
	names := make([]string, 0, len(path)+1)
	for _, g := range path {
		names = append(names, g.name)
	}
	return strings.Join(append(names, c.name), " > ")
}
