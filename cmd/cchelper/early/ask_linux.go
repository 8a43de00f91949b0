//go:build amd64 || arm64

package early

import (
	"encoding/binary"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/protocol"
)

// What is in this file and in request_linux.go runs before Go's runtime has started. README.md says what that forbids, and
// TestMachineCode holds the compiler to it.

// asked is what was done early, for the rest of the program to go on from.
var asked struct {
	mute     bool // standard output is closed; the runtime opens /dev/null in its place
	direct   bool // the socket is the default one, so nothing relays what is sent there
	fd       int  // the connection on which the request was sent; 0: none was
	sent     uint // bytes of the request
	received uint // bytes of the reply so far
	printed  uint // bytes of the answer that are on standard output already
	request  [1024]byte
	reply    [4096]byte
}

// goroutine stands in for the structure that compiled code expects to describe the running goroutine. The code here reads one
// field of it, the limit of the stack. That is 0, so the stack never counts as full. On amd64, compiled code finds the structure
// through the thread pointer: its address lies in the word before the one that the thread pointer names, which is what thread is
// for.
var (
	goroutine [8]uintptr
	thread    [2]uintptr
)

// found is what lstat found.
var found unix.Stat_t

var _, _, _ = ask, &goroutine, &thread // entry_linux_*.s use them

// ask asks for the token and, if it gets one, prints it and ends the process. Otherwise it returns, and the runtime starts. block
// is what the kernel puts on the stack of a new process: argc, argv, NULL, environment, NULL.
func ask(block *uintptr) {
	if _, _, errno := syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0); errno != 0 {
		return // a token could not be hidden here: main says so
	}
	if _, _, errno := syscall.RawSyscall(unix.SYS_FCNTL, 1, unix.F_GETFD, 0); errno == unix.EBADF {
		asked.mute = true
		return
	}
	if compose(block) && private() && send() && receive() {
		if token := tokenIn(asked.reply[:min(asked.received, uint(len(asked.reply)))]); len(token) > 0 {
			printAndExit(token)
		}
	}
}

// private reports whether the socket and its folder pass the checks of docs/protocol.md §2.2. What is wrong is main's to say.
func private() bool {
	slash := uint(0)
	for i := range min(socket.size, uint(len(socket.path))) {
		if socket.path[i] == '/' {
			slash = i
		}
	}
	if slash == 0 || slash >= uint(len(socket.path)) || socket.path[slash-1] == '/' {
		return false
	}
	uid := geteuid()
	socket.path[slash] = 0
	folder := ownFolder(uid)
	socket.path[slash] = '/'
	return folder && lstat() && found.Mode&unix.S_IFMT == unix.S_IFSOCK && uint(found.Uid) == uid
}

// ownFolder reports whether the path in socket is that of a folder of this user's alone.
func ownFolder(uid uint) bool {
	return lstat() && found.Mode&unix.S_IFMT == unix.S_IFDIR && found.Mode&0o077 == 0 && uint(found.Uid) == uid
}

// lstat fills in found for the path in socket. It is false if the system refuses.
func lstat() bool {
	at := unix.AT_FDCWD // has no effect on an absolute path; a variable, because a negative constant does not convert to uintptr
	_, _, errno := syscall.RawSyscall6(unix.SYS_NEWFSTATAT, uintptr(at), uintptr(unsafe.Pointer(&socket.path[0])),
		uintptr(unsafe.Pointer(&found)), unix.AT_SYMLINK_NOFOLLOW, 0, 0)
	return errno == 0
}

func geteuid() uint {
	uid, _, _ := syscall.RawSyscall(unix.SYS_GETEUID, 0, 0, 0)
	return uint(uid)
}

// send connects and writes the request. What went wrong is main's to find out: it tries again from the beginning.
func send() bool {
	fd, _, errno := syscall.RawSyscall(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if errno != 0 {
		return false
	}
	if fd > 2 { // a lower number would be that of a standard stream that is closed
		_, _, errno = syscall.RawSyscall(unix.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&socket)), unix.SizeofSockaddrUnix)
		if errno == 0 {
			n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&asked.request)), uintptr(asked.sent),
				unix.MSG_NOSIGNAL, 0, 0)
			if errno == 0 && uint(n) == asked.sent {
				if asked.direct { // tells the agent that no other request follows (docs/protocol.md §2.3)
					syscall.RawSyscall(unix.SYS_SHUTDOWN, fd, unix.SHUT_WR, 0)
				}
				asked.fd = int(fd)
				return true
			}
		}
	}
	syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
	return false
}

// receive waits for the whole reply, for a tenth of a second at most. A reply that takes longer is no token from the agent's
// memory, and there is time to start the runtime meanwhile.
func receive() bool {
	wait := unix.PollFd{Fd: int32(asked.fd), Events: unix.POLLIN}
	patience := unix.Timespec{Nsec: 100e6} // for all calls together: Linux's ppoll subtracts the time that it has waited
	for asked.received < uint(len(asked.reply)) {
		rest := asked.reply[asked.received:]
		n, _, errno := syscall.RawSyscall(unix.SYS_READ, uintptr(asked.fd), uintptr(unsafe.Pointer(&rest[0])), uintptr(len(rest)))
		switch {
		case errno == unix.EAGAIN:
			n, _, errno := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&wait)), 1, uintptr(unsafe.Pointer(&patience)),
				0, 0, 0)
			if errno != 0 || n == 0 {
				return false
			}
		case errno != 0 || n == 0: // main finds the connection broken as well, and asks again
			return false
		default:
			asked.received += uint(n)
			if asked.received >= 4 {
				size := 4 + uint(binary.BigEndian.Uint32(asked.reply[:4]))
				if asked.received >= size {
					return asked.received == size
				}
			}
		}
	}
	return false
}

// tokenIn returns the token in a reply frame (docs/protocol.md §4.2). It is empty where main has more to do than to print a
// token: for a malformed token, one that is not to be printed alone, a reply with a notice, and any other reply.
func tokenIn(frame []byte) (token []byte) {
	if len(frame) < 6 || frame[4] != protocol.Version || frame[5] != byte(protocol.OpToken.Reply()) {
		return nil
	}
	_, rest, ok := field(frame[6:]) // profile
	if !ok {
		return nil
	}
	token, rest, ok = field(rest)
	if !ok || len(token) > protocol.MaxToken || len(rest) < 8 {
		return nil
	}
	for _, c := range token {
		if !protocol.TokenByte(c) {
			return nil
		}
	}
	if expiry := binary.BigEndian.Uint64(rest); expiry > protocol.MaxTime && expiry != protocol.NoTime {
		return nil
	}
	kind, rest, ok := field(rest[8:])
	if !ok || string(kind) == string(protocol.KindAWS) {
		return nil
	}
	notice, rest, ok := field(rest)
	if !ok || len(notice) > 0 {
		return nil
	}
	if len(rest) > 0 { // the user name, which may be missing
		if _, _, ok = field(rest); !ok {
			return nil
		}
	}
	return token
}

// field takes a string (docs/protocol.md §3.2) off b. It is false if b does not hold all of it.
func field(b []byte) (s, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := uint(binary.BigEndian.Uint32(b))
	if b = b[4:]; n > uint(len(b)) {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}

// printAndExit writes the token and a newline to standard output, and ends the process. It returns if not all could be written:
// main then writes the rest, or says why it can't.
func printAndExit(token []byte) {
	const newline = "\n"
	line := [2]unix.Iovec{
		{Base: unsafe.SliceData(token), Len: uint64(len(token))},
		{Base: unsafe.StringData(newline), Len: uint64(len(newline))},
	}
	n, _, errno := syscall.RawSyscall(unix.SYS_WRITEV, 1, uintptr(unsafe.Pointer(&line)), uintptr(len(line)))
	if errno != 0 {
		return
	}
	if asked.printed = uint(n); asked.printed == uint(len(token)+len(newline)) {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}
