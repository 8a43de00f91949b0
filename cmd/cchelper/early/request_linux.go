//go:build amd64 || arm64

package early

import (
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/protocol"
)

// socket is where the agent listens. It begins as a sockaddr_un does; path ends with a NUL.
var socket struct {
	family uint16
	path   [unix.SizeofSockaddrUnix - 2]byte
	size   uint // bytes of path without the NUL
}

// workingDir is where the process was started. A path that does not fit here would not fit the request either.
var workingDir [len(asked.request)]byte

// variables are those of the environment that are understood here. If any other CCAGENT_ variable is set, main asks.
var variables = [...]string{
	"HOME=", "XDG_CONFIG_HOME=", "CLAUDE_CONFIG_DIR=", "CLAUDE_SECURESTORAGE_CONFIG_DIR=", "XDG_RUNTIME_DIR=", "TMPDIR=",
	"CCAGENT_SOCK=",
}

const (
	home = iota
	configHome
	claudeDir
	secureDir
	runtimeDir
	tmpDir
	sock
)

// compose writes the request and the address of the socket. It is false, and main asks instead, for every command line and
// environment that is out of the ordinary, whether it is right or wrong.
func compose(block *uintptr) bool {
	profile, renew, ok := arguments(block)
	if !ok {
		return false
	}
	env, ok := environment(block)
	if !ok {
		return false
	}
	isDefault, ok := address(env[runtimeDir], env[tmpDir], env[sock])
	asked.direct = isDefault
	dir := ""
	switch {
	case !ok:
		return false
	case !isDefault:
		env[home], env[configHome], env[claudeDir] = "", "", ""
	case profile == "": // else the agent has nothing to choose
		if dir, ok = getcwd(); !ok {
			return false
		}
	}
	return request(profile, renew, env[home], env[configHome], env[claudeDir], dir)
}

// getcwd returns the working directory as the kernel names it, "" where it has no path: it was deleted, say. It is false for a
// path that is too long.
func getcwd() (dir string, ok bool) {
	n, _, errno := syscall.RawSyscall(unix.SYS_GETCWD, uintptr(unsafe.Pointer(&workingDir)), uintptr(len(workingDir)), 0)
	switch {
	case errno == unix.ERANGE:
		return "", false
	case errno != 0 || n < 2 || n > uintptr(len(workingDir)) || workingDir[0] != '/':
		return "", true
	}
	return str(&workingDir[0], uint(n)-1), true // n counts the NUL
}

// arguments reads the command line. It is false for anything but a profile and --on-reask=renew, each once.
func arguments(block *uintptr) (profile string, renew, ok bool) {
	argc := int(*block)
	if arg0 := word(block, 1); argc < 1 ||
		arg0 != "cchelper" && !strings.HasSuffix(arg0, "/cchelper") { // the name of a link chooses a tool's format
		return "", false, false
	}
	for i := 2; i <= argc; i++ {
		switch word(block, i) {
		case "-p", "--profile":
			if i++; i > argc || profile != "" || !named(word(block, i)) {
				return "", false, false
			}
			profile = word(block, i)
		case "--on-reask=renew":
			if renew {
				return "", false, false
			}
			renew = true
		default:
			return "", false, false
		}
	}
	return profile, renew, true
}

// environment returns the values of variables, in their order. It is false where one is set twice, where there is another
// CCAGENT_ variable, and where the folder of Claude Code is not an absolute path.
func environment(block *uintptr) (env [len(variables)]string, ok bool) {
	for i := int(*block) + 2; *at(block, i) != 0; i++ {
		v, known := word(block, i), false
		for n := range variables {
			if strings.HasPrefix(v, variables[n]) {
				if env[n] != "" { // set twice: main knows which one counts
					return env, false
				}
				env[n], known = v, true
			}
		}
		if !known && strings.HasPrefix(v, "CCAGENT_") {
			return env, false
		}
	}
	secure := env[secureDir] != "" // true for an empty value too: env still holds NAME=value here
	for n := range variables {
		if len(env[n]) >= len(variables[n]) {
			env[n] = env[n][len(variables[n]):]
		}
	}
	if secure { // docs/protocol.md §4.1
		env[claudeDir] = env[secureDir]
	}
	return env, whole(env[claudeDir])
}

// whole reports whether dir is empty or an absolute path without control characters, as protocol.CheckClaudeDir wants a folder of
// Claude Code's to be.
func whole(dir string) bool {
	for i := range len(dir) {
		if dir[i] < ' ' || dir[i] == 0x7f {
			return false
		}
	}
	return dir == "" || dir[0] == '/'
}

// address writes the path of the socket that the environment names. isDefault says that it is the default one (docs/protocol.md
// §2.1), the only one to which a request carries its home (§4.1).
func address(runtime, tmp, other string) (isDefault, ok bool) {
	socket.family, socket.size = unix.AF_UNIX, 0
	locate(runtime, tmp)
	isDefault = other == "" || other == str(&socket.path[0], min(socket.size, uint(len(socket.path))))
	if !isDefault {
		socket.size = 0
		path(other)
		for i := range len(other) { // protocol.CheckVariable refuses such a value
			if c := other[i]; c < ' ' || c == 0x7f || c == ' ' && i+1 == len(other) {
				return false, false
			}
		}
	}
	if socket.path[0] != '/' || socket.size >= uint(len(socket.path)) {
		return false, false
	}
	socket.path[socket.size] = 0
	return isDefault, true
}

// request writes the request for a token: a frame (docs/protocol.md §3.1) of op token (§4.2). It is false if that does not fit.
func request(profile string, renew bool, home, configHome, claudeDir, dir string) bool {
	asked.sent = 0
	number(0, 4) // the length, once it is known
	number(protocol.Version, 1)
	number(uint64(protocol.OpToken), 1)
	text(profile)
	number(0, 8) // min_ttl
	number(0, 1) // force
	number(0, 1) // half_life
	text("")     // host
	text(home)
	text(configHome)
	text(claudeDir)
	number(protocol.NoTime, 8) // since
	if renew || dir != "" {
		number(0, 1) // listed
		reask := uint64(0)
		if renew {
			reask = uint64(protocol.DefaultReask.Milliseconds())
		}
		number(reask, 8)
	}
	if dir != "" {
		text(dir)
	}
	size := asked.sent
	if size > uint(len(asked.request)) {
		return false
	}
	asked.sent = 0
	number(uint64(size-4), 4)
	asked.sent = size
	return true
}

// at returns the address of the ith word of block.
func at(block *uintptr, i int) *uintptr {
	return (*uintptr)(unsafe.Add(unsafe.Pointer(block), i*int(unsafe.Sizeof(*block))))
}

// word returns the string that the ith word of block points to, "" where that is NULL.
func word(block *uintptr, i int) string {
	s := *(**byte)(unsafe.Pointer(at(block, i)))
	if s == nil {
		return ""
	}
	n := uint(0)
	for *(*byte)(unsafe.Add(unsafe.Pointer(s), n)) != 0 {
		n++
	}
	return str(s, n)
}

// str is unsafe.String without its checks, which may panic.
func str(p *byte, n uint) string {
	return *(*string)(unsafe.Pointer(&struct {
		p *byte
		n uint
	}{p, n}))
}

// named reports whether profile is certainly a profile's name. A name with a dot may be one too; main looks at that.
func named(profile string) bool {
	for i := range len(profile) {
		c := profile[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && (i == 0 || c != '-' && c != '_') {
			return false
		}
	}
	return profile != "" && len(profile) <= protocol.MaxProfile
}

// locate writes the default path of the socket (docs/protocol.md §2.1).
func locate(runtime, tmp string) {
	if runtime != "" && runtime[0] == '/' {
		path(trim(runtime))
		path("/ccagent/agent.sock")
		return
	}
	uid := geteuid()
	if tmp == "" {
		path("/run/user/")
		decimal(uid)
		letter(0)
		if socket.size--; ownFolder(uid) {
			path("/ccagent/agent.sock")
			return
		}
		socket.size = 0
		tmp = "/tmp"
	}
	path(trim(tmp))
	path("/ccagent-")
	decimal(uid)
	path("/agent.sock")
}

// decimal appends a user id to the path of the socket.
func decimal(uid uint) {
	for unit := uint(1e9); unit > 0; unit /= 10 {
		if uid >= unit || unit == 1 {
			letter('0' + byte(uid/unit%10))
		}
	}
}

// trim returns s without the slashes at its end.
func trim(s string) string {
	for s != "" && s[len(s)-1] == '/' {
		s = s[:len(s)-1]
	}
	return s
}

// path and letter append to the path of the socket. What does not fit is counted and not written.
func path(s string) {
	for i := range len(s) {
		letter(s[i])
	}
}

func letter(c byte) {
	if socket.size < uint(len(socket.path)) {
		socket.path[socket.size] = c
	}
	socket.size++
}

// number, text and octet append a field to the request: an integer of size bytes, a string, a byte. What does not fit is counted
// and not written.
func number(v uint64, size uint) {
	for size > 0 {
		size--
		octet(byte(v >> (8 * size)))
	}
}

func text(s string) {
	number(uint64(len(s)), 4)
	for i := range len(s) {
		octet(s[i])
	}
}

func octet(b byte) {
	if asked.sent < uint(len(asked.request)) {
		asked.request[asked.sent] = b
	}
	asked.sent++
}
