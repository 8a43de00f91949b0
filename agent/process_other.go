//go:build !linux

package agent

import "os"

// executable is the binary's path. What was installed over it since refuses the job: its build is another.
func executable() (string, error) { return os.Executable() }
