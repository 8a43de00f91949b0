//go:build !linux

package spawn

import "os"

// Executable is the binary's path. Another binary that has been installed there since refuses the job, because it is of another
// build.
func Executable() (string, error) { return os.Executable() }
