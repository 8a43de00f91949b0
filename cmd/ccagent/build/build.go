// Package build says which version of ccagent this is.
package build

import (
	"runtime/debug"
)

// Version is the version of this binary as the Go toolchain stamped it: the module's version for `go install`, a
// pseudo-version with the commit for a build from a checkout. An agent and its workers compare it.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}
