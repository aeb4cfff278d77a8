// Package engine is the one loop with effects: it asks the core which steps
// may start, calls their modules, writes down what happens before it goes on,
// and asks again. It holds no rule of its own; the order of things is
// rollout.Next's, and the state of the run is the fold of the events that the
// engine recorded.
package engine
