//go:build !linux

// Package memory gives the system back what an agent at rest does not need.
package memory

import "runtime/debug"

// Return gives the system back the memory of garbage.
func Return() { debug.FreeOSMemory() }
