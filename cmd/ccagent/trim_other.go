//go:build !linux

package main

import "runtime"

// anonymous is what the heap has in use, of all that a process has to itself.
func anonymous() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

func forget([][]byte) {}

func readOnlyMappings() [][]byte { return nil }
