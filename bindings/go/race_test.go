//go:build race

package flowplug

const raceEnabled = true
