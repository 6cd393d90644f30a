// SPDX-License-Identifier: GPL-3.0-only

package flowbot

import (
	"runtime"
	"sync"
	"sync/atomic"
	"weak"

	flowplug "github.com/flowplug/flowplug/bindings/go"
)

// place is where a plugin runs: two hosts may have the same identity.
type place struct {
	host     weak.Pointer[flowplug.Host]
	identity string
}

// lineage is the Runners that have followed each other in one place, by reloads. Each of them knows it, and none knows another.
type lineage struct {
	place place
	// running are those that were started and are not stopped, in that order, unless they are garbage.
	running []weak.Pointer[runner]
	// leader is the last of running; nil: the plugin is unloaded.
	leader atomic.Pointer[runner]
}

// lineages are those that have a leader, and the lock of what they hold. It keeps none of them: who closes a Host and
// lets its Runners go without stopping them has nothing of them left.
var lineages = struct {
	sync.Mutex
	of map[place]weak.Pointer[lineage]
}{of: map[place]weak.Pointer[lineage]{}}

// lead makes r the leader of its place; false if r was stopped meanwhile.
func (r *runner) lead() bool {
	lineages.Lock()
	defer lineages.Unlock()
	if r.stopped.Load() {
		return false
	}
	line := lineages.of[r.place].Value()
	if line == nil {
		line = &lineage{place: r.place}
		lineages.of[r.place] = weak.Make(line)
		runtime.AddCleanup(line, forget, r.place)
	}
	line.running = append(line.running, weak.Make(r))
	line.leader.Store(r)
	r.line.Store(line)
	return true
}

// forget ends the entry of a lineage that nobody has any longer, if another one has not taken the place.
func forget(at place) {
	lineages.Lock()
	defer lineages.Unlock()
	if lineages.of[at].Value() == nil {
		delete(lineages.of, at)
	}
}

// leave hands the place to the one that was started last of those that still run. The last to leave ends the lineage.
func (r *runner) leave() {
	lineages.Lock()
	defer lineages.Unlock()
	line := r.line.Load()
	if line == nil {
		return
	}
	var leader *runner
	running := line.running[:0]
	for _, other := range line.running {
		if at := other.Value(); at != nil && at != r {
			leader, running = at, append(running, other)
		}
	}
	line.running = running
	if line.leader.Swap(leader) != nil && leader == nil {
		delete(lineages.of, line.place)
	}
}
