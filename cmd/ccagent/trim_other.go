//go:build !linux

package main

import "runtime/debug"

// trim gives memory back that only starting and renewing need.
func trim() { debug.FreeOSMemory() }
