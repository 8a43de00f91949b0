//go:build !linux

// Package memory returns memory to the system that an agent at rest does not need.
package memory

import "runtime/debug"

// Return returns the memory of garbage to the system.
func Return() { debug.FreeOSMemory() }
