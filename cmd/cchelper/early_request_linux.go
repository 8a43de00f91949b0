//go:build amd64 || arm64

package main

import (
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/protocol"
)

// socket is where the agent listens: a sockaddr_un, whose path ends with a NUL.
var socket struct {
	family uint16
	path   [unix.SizeofSockaddrUnix - 2]byte
	size   uint // of path, less the NUL
}

// variables are the ones that are known here. Any other of ours is main's to read.
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

const (
	never   = 1<<63 - 1       // docs/protocol.md §3.2
	maxTime = 253402300799999 // §3.2
)

// compose writes the request and the address of the socket. It is false if anything is out of the ordinary, right or wrong.
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
	if !isDefault {
		env[home], env[configHome], env[claudeDir] = "", "", ""
	}
	return ok && request(profile, renew, env[home], env[configHome], env[claudeDir])
}

func arguments(block *uintptr) (profile string, renew, ok bool) {
	argc := int(*block)
	if arg0 := word(block, 1); argc < 1 ||
		arg0 != "cchelper" && !strings.HasSuffix(arg0, "/cchelper") { // the name of a link means more
		return "", false, false
	}
	for i := 2; i <= argc; i++ {
		switch word(block, i) {
		case "-p", "--profile":
			if i++; i > argc || !named(word(block, i)) {
				return "", false, false
			}
			profile = word(block, i)
		case "--on-reask=renew":
			renew = true
		default:
			return "", false, false
		}
	}
	return profile, renew, true
}

func environment(block *uintptr) (env [len(variables)]string, ok bool) {
	for i := int(*block) + 2; *entry(block, i) != 0; i++ {
		v, known := word(block, i), false
		for n := range variables {
			if strings.HasPrefix(v, variables[n]) {
				if env[n] != "" { // twice: main knows which one counts
					return env, false
				}
				env[n], known = v, true
			}
		}
		if !known && strings.HasPrefix(v, "CCAGENT_") {
			return env, false
		}
	}
	secure := env[secureDir] != "" // set, be it to nothing
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

// whole reports whether a folder of Claude Code's is an absolute path, or none. What is wrong with another is main's to say.
func whole(dir string) bool {
	for i := range len(dir) {
		if dir[i] < ' ' || dir[i] == 0x7f {
			return false
		}
	}
	return dir == "" || dir[0] == '/'
}

// address writes the path that the environment names. To another agent than the default one no home is told (§4.1).
func address(runtime, tmp, other string) (isDefault, ok bool) {
	socket.family, socket.size = unix.AF_UNIX, 0
	locate(runtime, tmp)
	isDefault = other == "" || other == str(&socket.path[0], min(socket.size, uint(len(socket.path))))
	if !isDefault {
		socket.size = 0
		path(other)
	}
	if socket.path[0] != '/' || socket.size >= uint(len(socket.path)) {
		return false, false
	}
	socket.path[socket.size] = 0
	return isDefault, true
}

// request is a frame (§3.1) of op token (§4.2).
func request(profile string, renew bool, home, configHome, claudeDir string) bool {
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
	number(never, 8) // since
	if renew {
		number(0, 1) // listed
		number(uint64(defaultReask.Milliseconds()), 8)
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

// entry is a word of block, and word the string that it points to, "" where it points to none.
func entry(block *uintptr, i int) *uintptr {
	return (*uintptr)(unsafe.Add(unsafe.Pointer(block), i*int(unsafe.Sizeof(*block))))
}

func word(block *uintptr, i int) string {
	s := *(**byte)(unsafe.Pointer(entry(block, i)))
	if s == nil {
		return ""
	}
	n := uint(0)
	for *(*byte)(unsafe.Add(unsafe.Pointer(s), n)) != 0 {
		n++
	}
	return str(s, n)
}

// str is unsafe.String, which panics.
func str(p *byte, n uint) string {
	return *(*string)(unsafe.Pointer(&struct {
		p *byte
		n uint
	}{p, n}))
}

// named reports whether a profile can have that name. What is wrong with another is main's to say.
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

// locate writes the default path (§2.1).
func locate(runtime, tmp string) {
	if runtime != "" && runtime[0] == '/' {
		path(trim(runtime))
		path("/ccagent/agent.sock")
		return
	}
	if tmp == "" {
		tmp = "/tmp"
	}
	path(trim(tmp))
	path("/ccagent-")
	uid := geteuid()
	for unit := uint(1e9); unit > 0; unit /= 10 {
		if uid >= unit || unit == 1 {
			letter('0' + byte(uid/unit%10))
		}
	}
	path("/agent.sock")
}

func trim(s string) string {
	for s != "" && s[len(s)-1] == '/' {
		s = s[:len(s)-1]
	}
	return s
}

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

// number and text append a field to the request, octet a byte.
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
