//go:build !darwin

package main

import "os"

// launchdFiles is for macOS.
func launchdFiles() ([]*os.File, error) { return nil, nil }
