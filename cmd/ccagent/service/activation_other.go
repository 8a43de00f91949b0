//go:build !darwin

package service

import "os"

// launchdFiles is for macOS.
func launchdFiles() ([]*os.File, error) { return nil, nil }
