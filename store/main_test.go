package store

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain is also the main function of the other processes that some tests start. It removes the umask, so that a mode is what
// the code asks for.
func TestMain(m *testing.M) {
	unix.Umask(0)
	os.Setenv("GORACE", "atexit_sleep_ms=0") // under the race detector each of them would stay for a second
	if role := os.Getenv("CCAGENT_STORE_ROLE"); role != "" {
		os.Exit(roles[role](os.Args[1:]))
	}
	if len(os.Args) > 1 && (os.Args[1] == "-i" || strings.HasSuffix(os.Args[1], "-generic-password")) {
		os.Exit(security(os.Args[1:]))
	}
	os.Exit(m.Run())
}
