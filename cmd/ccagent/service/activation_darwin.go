package service

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"github.com/ebitengine/purego"
)

// launchdSocket is the socket's name in the property list (packaging/launchd).
const launchdSocket = "Listeners"

// launchdFiles gets the sockets that launchd holds for this process. It calls launch_activate_socket(3), which is a library
// function and no system call, without cgo.
func launchdFiles() ([]*os.File, error) {
	lib, err := purego.Dlopen("/usr/lib/libSystem.B.dylib", purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return nil, err
	}
	var activate func(name string, fds **int32, count *uint64) int32
	purego.RegisterLibFunc(&activate, lib, "launch_activate_socket")
	var free func(unsafe.Pointer)
	purego.RegisterLibFunc(&free, lib, "free")

	var fds *int32
	var count uint64
	errno := syscall.Errno(activate(launchdSocket, &fds, &count))
	if errno == syscall.ESRCH || errno == syscall.ENOENT {
		return nil, nil // not started by launchd, or not with a socket
	}
	if errno != 0 {
		return nil, fmt.Errorf("launchd: %w", errno)
	}
	defer free(unsafe.Pointer(fds))
	files := make([]*os.File, 0, count)
	for _, fd := range unsafe.Slice(fds, count) {
		syscall.CloseOnExec(int(fd))
		files = append(files, os.NewFile(uintptr(fd), launchdSocket))
	}
	return files, nil
}
