//go:build unix

package protocol

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// SocketPath returns where the agent of this environment listens (docs/protocol.md §2.1): at $CCAGENT_SOCK, else at
// $XDG_RUNTIME_DIR/ccagent/agent.sock, else at $TMPDIR/ccagent-UID/agent.sock, with /tmp for an unset TMPDIR. isDefault says that
// this is the default path, which counts even if CCAGENT_SOCK names it. Only on the default path is an agent started, and only
// there does a request carry its [Home]. A path that is relative or too long for a socket is ErrConfig.
func SocketPath() (path string, isDefault bool, err error) {
	path = defaultPath()
	if s := os.Getenv("CCAGENT_SOCK"); s != "" && s != path {
		return s, false, checkPath("$CCAGENT_SOCK", s)
	}
	return path, true, checkPath("the socket's path", path)
}

func defaultPath() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); strings.HasPrefix(dir, "/") { // the XDG specification says to ignore a relative one
		return strings.TrimRight(dir, "/") + "/ccagent/agent.sock"
	}
	tmp := os.Getenv("TMPDIR")
	if tmp == "" {
		tmp = "/tmp"
	}
	return strings.TrimRight(tmp, "/") + "/ccagent-" + strconv.Itoa(os.Geteuid()) + "/agent.sock"
}

// maxSocketPath is the length of the longest path in a sockaddr_un, without its NUL (§2.1): 107 bytes on Linux, 103 on macOS.
const maxSocketPath = len(unix.RawSockaddrUnix{}.Path) - 1

func checkPath(what, path string) error {
	hint := "set CCAGENT_SOCK to an absolute path, or unset it"
	if what[0] != '$' { // only TMPDIR can make the default path a relative one
		hint = "set TMPDIR to an absolute path, or unset it; a shell leaves a ~ in quotes as it is"
	}
	switch {
	case !strings.HasPrefix(path, "/"):
		return &Error{
			Code:    CodeConfig,
			Message: what + " is not absolute: " + quote(path),
			Hint:    hint,
		}
	case strings.IndexByte(path, 0) >= 0:
		return &Error{Code: CodeConfig, Message: what + " holds a NUL", Hint: hint}
	case len(path) > maxSocketPath:
		return &Error{
			Code: CodeConfig,
			Message: what + " has " + strconv.Itoa(len(path)) + " bytes, and a socket's path at most " +
				strconv.Itoa(maxSocketPath) + ": " + quote(path),
			Hint: "set CCAGENT_SOCK to a shorter path",
		}
	}
	return nil
}

// SocketDir returns the folder of a socket without a slash at its end, with which lstat would follow a link.
func SocketDir(path string) string {
	dir := strings.TrimRight(path[:strings.LastIndexByte(path, '/')+1], "/")
	if dir == "" {
		return "/"
	}
	return dir
}

// CheckDir refuses a folder in which a socket is not private (§2.2): it must be a directory and no link to one, belong to the
// caller, and be closed to group and others. Another folder is ErrDenied, with a message that says what was found; if there is no
// folder, the error is ErrNoAgent.
func CheckDir(dir string) error {
	var st unix.Stat_t
	if err := lstat(dir, &st); err != nil {
		return statError("folder", dir, err)
	}
	var found string
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		found = "a symbolic link"
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		found = "not a directory"
	case st.Uid != uint32(os.Geteuid()):
		found = "owned by uid " + strconv.Itoa(int(st.Uid)) + ", not by you (uid " + strconv.Itoa(os.Geteuid()) + ")"
	case st.Mode&0o077 != 0:
		found = "open to others (mode " + octal(uint32(st.Mode)) + ")"
	default:
		return nil
	}
	return &Error{
		Code:    CodeDenied,
		Message: "the socket's folder " + quotePath(dir) + " is " + found,
		Hint:    "it must be a directory of your own with mode 0700: move away what is there, or `chmod 700` it if you trust it",
	}
}

// checkSocket refuses what is not the caller's own socket (§2.2). It looks at the file and not at the peer's credentials: if a
// service manager has made the socket, those are the manager's.
func checkSocket(path string) error {
	var st unix.Stat_t
	if err := lstat(path, &st); err != nil {
		return statError("socket", path, err)
	}
	var found string
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFSOCK:
		found = "not a socket"
	case st.Uid != uint32(os.Geteuid()):
		found = "owned by uid " + strconv.Itoa(int(st.Uid)) + ", not by you (uid " + strconv.Itoa(os.Geteuid()) + ")"
	default:
		return nil
	}
	return &Error{Code: CodeDenied, Message: quotePath(path) + " is " + found,
		Hint: "move away what is there, or set CCAGENT_SOCK; if somebody shares that socket with you, set CCAGENT_SOCK_UID too"}
}

// checkShared is CheckDir and checkSocket for a socket that another user shares with the caller, who has named that user's id in
// CCAGENT_SOCK_UID. Then anybody may search the folder, but only that user, the caller and root may write to it.
func checkShared(path, owner string) error {
	uid, err := strconv.ParseUint(owner, 10, 32)
	if err != nil {
		return &Error{Code: CodeConfig, Message: "CCAGENT_SOCK_UID is not a user id: " + quote(owner)}
	}
	trusted := func(u uint32) bool { return u == uint32(uid) || u == uint32(os.Geteuid()) || u == 0 }
	var dir, sock unix.Stat_t
	if err := lstat(SocketDir(path), &dir); err != nil {
		return statError("folder", path, err)
	}
	if err := lstat(path, &sock); err != nil {
		return statError("socket", path, err)
	}
	var found string
	switch {
	case dir.Mode&unix.S_IFMT != unix.S_IFDIR:
		found = "in what is not a directory"
	case !trusted(dir.Uid):
		found = "in a folder of uid " + strconv.Itoa(int(dir.Uid))
	case dir.Mode&0o022 != 0:
		found = "in a folder that others may write (mode " + octal(uint32(dir.Mode)) + ")"
	case sock.Mode&unix.S_IFMT != unix.S_IFSOCK:
		found = "not a socket"
	case uint64(sock.Uid) != uid:
		found = "owned by uid " + strconv.Itoa(int(sock.Uid)) + ", and CCAGENT_SOCK_UID is " + owner
	default:
		return nil
	}
	return &Error{Code: CodeDenied, Message: quotePath(path) + " is " + found}
}

func lstat(path string, st *unix.Stat_t) error {
	for {
		if err := unix.Lstat(path, st); err != unix.EINTR {
			return err
		}
	}
}

func statError(what, path string, err error) error {
	if err == unix.ENOENT {
		return noAgent(path)
	}
	return &Error{Code: CodeDenied, Message: "can't look at the " + what + " " + quotePath(path) + ": " + err.Error()}
}

// octal returns the permission bits of mode as they are written for chmod.
func octal(mode uint32) string {
	s := strconv.FormatUint(uint64(mode&0o7777), 8)
	return "0000"[:max(4-len(s), 0)] + s
}

// quotePath returns a path for a message: as it is, or in quotes if a blank or an unprintable character could mislead.
func quotePath(path string) string {
	if strings.IndexFunc(path, func(r rune) bool { return r <= ' ' || !strconv.IsPrint(r) }) < 0 {
		return path
	}
	return strconv.Quote(path)
}
