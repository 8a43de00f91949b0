//go:build !linux

package main

import "runtime/debug"

// returnMemory gives the system back the memory of garbage.
func returnMemory() { debug.FreeOSMemory() }
