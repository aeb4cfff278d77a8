// Package engine is the one loop with effects: it takes the steps that
// [rollout.Next] says are ready, calls their modules, and records what happened
// before anything follows from it. It knows no node and no cluster; it decides
// nothing.
package engine
