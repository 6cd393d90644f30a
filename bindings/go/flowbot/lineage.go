// SPDX-License-Identifier: GPL-3.0-only

package flowbot

import (
	"sync"
	"sync/atomic"

	flowplug "github.com/flowplug/flowplug/bindings/go"
)

// place is where a plugin runs: two hosts may have the same identity.
type place struct {
	host     *flowplug.Host
	identity string
}

// lineage is the Runners that have followed each other in one place, by reloads. Each of them knows it, and none knows another.
type lineage struct {
	place place
	// leader was started last and is not stopped; nil: the plugin is unloaded.
	leader atomic.Pointer[runner]
}

// lineages are those that have a leader.
var lineages = struct {
	sync.Mutex
	of map[place]*lineage
}{of: map[place]*lineage{}}

// lead makes r the leader of its place.
func lead(at place, r *runner) *lineage {
	lineages.Lock()
	defer lineages.Unlock()
	line := lineages.of[at]
	if line == nil {
		line = &lineage{place: at}
		lineages.of[at] = line
	}
	line.leader.Store(r)
	return line
}

// leave ends the lineage if r leads it. One that has been followed changes nothing.
func (l *lineage) leave(r *runner) {
	lineages.Lock()
	defer lineages.Unlock()
	if l.leader.CompareAndSwap(r, nil) {
		delete(lineages.of, l.place)
	}
}
