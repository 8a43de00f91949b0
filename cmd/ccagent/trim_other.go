//go:build !linux

package main

import "runtime/debug"

// trim gives memory back that only starting and renewing need.
func trim([][]byte) { debug.FreeOSMemory() }

// readOnlyMappings are not told by this system.
func readOnlyMappings() [][]byte { return nil }
