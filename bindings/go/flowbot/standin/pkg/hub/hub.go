// SPDX-License-Identifier: GPL-3.0-only

// Package hub stands in for flowbot's.
package hub

// CapabilityType names what abilities are for.
type CapabilityType string
