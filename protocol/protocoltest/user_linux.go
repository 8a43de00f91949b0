package protocoltest

import (
	"os"
	"runtime"
	"syscall"
	"testing"
)

// AsUser calls f on a thread of its own that has the user id uid, as another user's process would. It skips the test for anybody
// but root, who alone can do that. What f starts in other goroutines is root's.
func AsUser(t testing.TB, uid int, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never again unlock: the thread ends with its user
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
			done <- errno
			return
		}
		defer close(done)
		f()
	}()
	if err := <-done; err != nil {
		t.Skip("this system lets root be nobody else: ", err)
	}
}
