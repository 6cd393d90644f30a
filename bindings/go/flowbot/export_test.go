// SPDX-License-Identifier: GPL-3.0-only

package flowbot

import (
	"runtime"

	"github.com/flowline-io/flowbot/pkg/plugin"
)

// WhenGone has f called when r is garbage.
func WhenGone(r plugin.Runner, f func()) { runtime.AddCleanup(r.(*runner), func(f func()) { f() }, f) }

// Remembered says whether there is an entry for the identity, in whatever host.
func Remembered(identity string) bool {
	lineages.Lock()
	defer lineages.Unlock()
	for at := range lineages.of {
		if at.identity == identity {
			return true
		}
	}
	return false
}
