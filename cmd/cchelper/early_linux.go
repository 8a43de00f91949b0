//go:build amd64 || arm64

package main

import (
	"encoding/binary"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/protocol"
)

// Go's runtime takes a millisecond to start, the agent's answer a tenth of one. So where the linker is told to (-E main.early,
// see Makefile) this program begins here: it asks, and if the answer is a token, as it nearly always is, prints it and is gone.
// Else the runtime starts as ever, and main goes on where this ended: with the connection on which the request is sent already
// or, if anything was out of the ordinary before that, from the beginning.
//
// The code is compiled like all Go code, and has nothing that Go code has otherwise: no goroutine, no stack that grows, no heap,
// no signal handlers. So its functions call nothing but each other and plain system calls, keep what is large in variables, write
// no pointer there, and never panic. TestEarlyMachineCode holds the compiler to that, FuzzEarly compares what is asked with what
// main would ask.

// asked is a request that was sent, for main to take over.
var asked struct {
	mute           bool // standard output is closed, in whose place the runtime opens /dev/null
	direct         bool // nothing lies between this socket and its agent
	fd             int  // the connection; 0: nothing was sent
	sent, received uint
	printed        uint // of the answer
	request        [1024]byte
	reply          [4096]byte
}

// goroutine is what this code takes for its own. All that it ever reads there is the limit of the stack, which is 0: no stack has
// to grow. thread has its address where the thread pointer of amd64 says that it is.
var (
	goroutine [8]uintptr
	thread    [2]uintptr
)

// found is what lstat found.
var found unix.Stat_t

var _, _, _ = ask, &goroutine, &thread // early_linux_*.s use them

// ask is all of it. block is what the kernel puts on the stack of a new process: argc, argv, NULL, environment, NULL.
func ask(block *uintptr) {
	if _, _, errno := syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0); errno != 0 {
		return // there is nowhere to hide a token: main says so
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

// private looks at the socket and its folder (docs/protocol.md §2.2).
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
	folder := lstat()
	socket.path[slash] = '/'
	return folder && found.Mode&unix.S_IFMT == unix.S_IFDIR && found.Mode&0o077 == 0 && uint(found.Uid) == uid &&
		lstat() && found.Mode&unix.S_IFMT == unix.S_IFSOCK && uint(found.Uid) == uid
}

func lstat() bool {
	at := unix.AT_FDCWD // of which an absolute path makes no use
	_, _, errno := syscall.RawSyscall6(unix.SYS_NEWFSTATAT, uintptr(at), uintptr(unsafe.Pointer(&socket.path[0])),
		uintptr(unsafe.Pointer(&found)), unix.AT_SYMLINK_NOFOLLOW, 0, 0)
	return errno == 0
}

func geteuid() uint {
	uid, _, _ := syscall.RawSyscall(unix.SYS_GETEUID, 0, 0, 0)
	return uint(uid)
}

// send connects, and writes the request.
func send() bool {
	fd, _, errno := syscall.RawSyscall(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if errno != 0 {
		return false
	}
	if fd > 2 { // else it is in the place of a standard stream that is closed
		_, _, errno = syscall.RawSyscall(unix.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&socket)), unix.SizeofSockaddrUnix)
		if errno == 0 {
			n, _, errno := syscall.RawSyscall6(
				unix.SYS_SENDTO,
				fd,
				uintptr(unsafe.Pointer(&asked.request)),
				uintptr(asked.sent),
				unix.MSG_NOSIGNAL,
				0,
				0,
			)
			if errno == 0 && uint(n) == asked.sent {
				if asked.direct { // a relay may take it for the end of the reply as well
					syscall.RawSyscall(unix.SYS_SHUTDOWN, fd, unix.SHUT_WR, 0) // the only request (docs/protocol.md §2.3)
				}
				asked.fd = int(fd)
				return true
			}
		}
	}
	syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
	return false
}

// receive waits for the reply. One that takes longer than this does not come from memory, and leaves time to start the runtime.
func receive() bool {
	wait := unix.PollFd{Fd: int32(asked.fd), Events: unix.POLLIN}
	patience := unix.Timespec{Nsec: 100e6} // in all: ppoll leaves in it what is left
	for asked.received < uint(len(asked.reply)) {
		rest := asked.reply[asked.received:]
		n, _, errno := syscall.RawSyscall(unix.SYS_READ, uintptr(asked.fd), uintptr(unsafe.Pointer(&rest[0])), uintptr(len(rest)))
		switch {
		case errno == unix.EAGAIN:
			n, _, errno := syscall.RawSyscall6(
				unix.SYS_PPOLL,
				uintptr(unsafe.Pointer(&wait)),
				1,
				uintptr(unsafe.Pointer(&patience)),
				0,
				0,
				0,
			)
			if errno != 0 || n == 0 {
				return false
			}
		case errno != 0 || n == 0: // main finds it ended as well, and tries again
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

// tokenIn returns the token of a reply (§4.2) that needs no words to the person, empty for any other.
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
		if c <= ' ' || c > '~' {
			return nil
		}
	}
	if expiry := binary.BigEndian.Uint64(rest); expiry > maxTime && expiry != never {
		return nil
	}
	_, rest, ok = field(rest[8:]) // kind
	if !ok {
		return nil
	}
	notice, _, ok := field(rest)
	if !ok || len(notice) > 0 {
		return nil
	}
	return token
}

// field cuts off a string (§3.2).
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

// printAndExit returns if not all could be written: main writes the rest, or says why not.
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
