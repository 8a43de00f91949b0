//go:build unix

package protocol

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// SocketPath returns where the agent of this environment listens (docs/protocol.md §2.1): at $CCAGENT_SOCK, else at
// $XDG_RUNTIME_DIR/ccagent/agent.sock, else at $TMPDIR/ccagent-UID/agent.sock, else at /run/user/UID/ccagent/agent.sock if
// /run/user/UID is the caller's own, else at /tmp/ccagent-UID/agent.sock. isDefault says that this is the default path, which
// counts even if CCAGENT_SOCK names it. Only on the default path is an agent started, and only there does a request carry its
// [Home]. A path that is relative or too long for a socket is ErrConfig.
func SocketPath() (path string, isDefault bool, err error) {
	path = defaultPath()
	if s := os.Getenv("CCAGENT_SOCK"); s != "" && s != path {
		if err := CheckVariable("CCAGENT_SOCK", s); err != nil {
			return s, false, err
		}
		return s, false, checkPath("$CCAGENT_SOCK", s)
	}
	return path, true, checkPath("the socket's path", path)
}

func defaultPath() string {
	r := defaultRoom()
	return r.dir + r.folder + "/agent.sock"
}

// room is where the folder of the default socket is made.
type room struct {
	dir    string // without a slash at its end
	folder string // of the socket, with a slash before it
	names  string // the variable that names dir; "": none does
	why    string // this dir, in words
}

func defaultRoom() room {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); strings.HasPrefix(dir, "/") { // the XDG specification says to ignore a relative one
		return room{strings.TrimRight(dir, "/"), "/ccagent", "XDG_RUNTIME_DIR", "XDG_RUNTIME_DIR names its folder"}
	}
	uid := strconv.Itoa(os.Geteuid())
	if tmp := os.Getenv("TMPDIR"); tmp != "" {
		return room{strings.TrimRight(tmp, "/"), "/ccagent-" + uid, "TMPDIR",
			"XDG_RUNTIME_DIR is not set, and TMPDIR names its folder"}
	}
	made, st := "/run/user/"+uid, unix.Stat_t{}
	if lstat(made, &st) == nil && flawOf(&st) == "" { // systemd-logind makes it at a login
		return room{made, "/ccagent", "", "neither XDG_RUNTIME_DIR nor TMPDIR is set, and " + made + " is there"}
	}
	return room{"/tmp", "/ccagent-" + uid, "", "neither XDG_RUNTIME_DIR nor TMPDIR is set, and there is no " + made + " of yours"}
}

// SocketReason says in words why [SocketPath] returns the path that it does.
func SocketReason() string {
	if _, isDefault, _ := SocketPath(); !isDefault {
		return "CCAGENT_SOCK names it"
	}
	return defaultRoom().why
}

// CheckRoom refuses the folder of the default socket if XDG_RUNTIME_DIR or TMPDIR names a place for it in which nothing must be
// made (docs/protocol.md §2.1): one that is not there (ErrNoAgent), that is not a folder, or that is another user's (ErrDenied),
// as XDG_RUNTIME_DIR is after su and sudo -E. A folder that everybody may write to, like /tmp, is nobody's in particular. It says
// nothing of any other folder: that one was chosen for its own sake.
func CheckRoom(dir string) error {
	r := defaultRoom()
	if dir != r.dir+r.folder {
		return nil
	}
	what, hint := r.dir, ""
	if r.names != "" {
		what, hint = r.names+" is "+quotePath(r.dir), "unset "+r.names+", or set it to a folder of your own"
	}
	var st unix.Stat_t
	err := ignoringEINTR(func() error { return unix.Stat(r.dir+"/", &st) })
	switch {
	case err == unix.ENOENT && r.names == "XDG_RUNTIME_DIR":
		return &Error{Code: CodeNoAgent, Message: "no agent is listening: " + what + ", and there is no such folder",
			Hint: "a login makes that folder; where there is none: unset XDG_RUNTIME_DIR"}
	case err == unix.ENOENT:
		return &Error{Code: CodeNoAgent, Message: "no agent is listening: " + what + ", and there is no such folder", Hint: hint}
	case err != nil:
		return &Error{Code: CodeDenied, Message: what + ", which can't be looked at: " + err.Error(), Hint: hint}
	case st.Uid != uint32(os.Geteuid()) && st.Mode&0o002 == 0:
		if r.names == "XDG_RUNTIME_DIR" {
			hint = "su and sudo -E leave it as it was: unset XDG_RUNTIME_DIR, or use su - or sudo -i"
		}
		return &Error{Code: CodeDenied, Message: what + ", a folder that is owned by " + notYou(st.Uid), Hint: hint}
	}
	return nil
}

// notYou tells another user from the caller.
func notYou(uid uint32) string {
	return "uid " + strconv.Itoa(int(uid)) + ", not by you (uid " + strconv.Itoa(os.Geteuid()) + ")"
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
// folder, the error is ErrNoAgent. Where the fault lies with what is around the folder, the error is that of [CheckRoom].
func CheckDir(dir string) error {
	var st unix.Stat_t
	statErr := lstat(dir, &st)
	found := flawOf(&st)
	if statErr == nil && found == "" {
		return nil
	}
	if err := CheckRoom(dir); err != nil {
		return err
	}
	if statErr != nil {
		return statError("folder", dir, statErr)
	}
	err := &Error{Code: CodeDenied, Message: "the socket's folder " + quotePath(dir) + " is " + found,
		Hint: "it must be a directory of your own with mode 0700: move away what is there"}
	switch {
	case st.Uid != uint32(os.Geteuid()) || st.Mode&unix.S_IFMT != unix.S_IFDIR:
	case shared(dir):
		err.Hint = "have a folder of its own for the socket: mkdir -p -m 700 ~/.ccagent; export CCAGENT_SOCK=~/.ccagent/agent.sock"
	default:
		err.Hint = "if nobody else has put anything into it: " + ShellLine("chmod", "700", dir) + "\notherwise move it away"
	}
	if r := defaultRoom(); st.Uid != uint32(os.Geteuid()) && dir == r.dir+r.folder && r.folder != "/ccagent" {
		// In /tmp nobody else can move it away.
		err.Hint = "that user or root can take it away: sudo rm -r " + ShellLine(dir) +
			"\nuntil then, use a folder of your own: mkdir -p -m 700 ~/.cache/tmp; export TMPDIR=~/.cache/tmp"
	}
	return err
}

// shared reports whether a folder may be one that other users and programs need open, such as /, /etc or a home: to root they are
// folders of its own.
func shared(dir string) bool {
	return strings.Count(dir, "/") < 3 && !strings.HasPrefix(dir, "/tmp/")
}

// flawOf says why a folder is not one of the caller's alone, "" if it is.
func flawOf(st *unix.Stat_t) string {
	switch {
	case st.Uid != uint32(os.Geteuid()):
		return "owned by " + notYou(st.Uid)
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return "a symbolic link"
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return "not a directory"
	case st.Mode&0o077 != 0:
		return "open to others (mode " + octal(uint32(st.Mode)) + ")"
	}
	return ""
}

// maxLinks is how many links may follow each other on the way to a socket.
const maxLinks = 8

// Place returns where the path of a socket leads: path itself, unless there is a link of the caller's own (§2.2). check judges
// the folder of each link's target. Nothing need be at the place that is returned. Another user's link is ErrDenied.
func Place(path string, check func(dir string) error) (place string, err error) {
	place, _, err = follow(path, func(uid uint32) bool { return uid == uint32(os.Geteuid()) }, check)
	if errors.Is(err, ErrNoAgent) {
		return place, nil
	}
	return place, err
}

// follow is [Place] for links of those users that are trusted. st is what lstat says of the place; if there is nothing, the error
// is ErrNoAgent.
func follow(path string, trusted func(uid uint32) bool, check func(dir string) error) (place string, st unix.Stat_t, err error) {
	place = path
	for range maxLinks {
		if err := lstat(place, &st); err != nil {
			return place, st, statErrorAt(path, place, err)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFLNK {
			return place, st, nil
		}
		if !trusted(st.Uid) {
			return place, st, &Error{Code: CodeDenied, Message: quotePath(place) + " is a symbolic link owned by " + notYou(st.Uid),
				Hint: "set CCAGENT_SOCK to the path that it leads to, if you trust that one"}
		}
		if place, err = target(place); err != nil {
			return place, st, &Error{Code: CodeDenied, Message: quotePath(path) + " is a symbolic link that can't be read: " + err.Error()}
		}
		if err := check(SocketDir(place)); err != nil {
			if errors.Is(err, ErrNoAgent) {
				return place, st, noAgent(path)
			}
			return place, st, &Error{Code: CodeOf(err), Hint: HintOf(err),
				Message: quotePath(path) + " is a symbolic link to " + quotePath(place) + ", and there " + err.Error()}
		}
	}
	return place, st, &Error{Code: CodeDenied, Message: quotePath(path) + " is a symbolic link that leads to others without end",
		Hint: "have it lead to the socket itself"}
}

// statErrorAt is statError for the socket at place, to which path leads.
func statErrorAt(path, place string, err error) error {
	if err == unix.ENOENT {
		return noAgent(path)
	}
	return statError("socket", place, err)
}

// target returns the path that the link at path names. A relative one begins at the folder of the link.
func target(path string) (string, error) {
	var room [unix.PathMax]byte
	n := 0
	err := ignoringEINTR(func() (err error) {
		n, err = unix.Readlink(path, room[:])
		return err
	})
	if err != nil {
		return path, err
	}
	to := string(room[:n])
	if !strings.HasPrefix(to, "/") {
		to = path[:strings.LastIndexByte(path, '/')+1] + to
	}
	return to, nil
}

// checkSocket refuses what is not the caller's own socket (§2.2). It looks at the file and not at the peer's credentials: if a
// service manager has made the socket, those are the manager's. A link is followed. Only the caller can have changed it between
// this and the connection, because it lies in a folder of the caller's alone, and so does its target.
func checkSocket(path string) error {
	_, st, err := follow(path, func(uid uint32) bool { return uid == uint32(os.Geteuid()) }, CheckDir)
	if err != nil {
		return err
	}
	var found string
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFSOCK:
		found = "not a socket"
	case st.Uid != uint32(os.Geteuid()):
		found = "owned by " + notYou(st.Uid)
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
	checkFolder := func(path string) error {
		var dir unix.Stat_t
		if err := lstat(path, &dir); err != nil {
			return statError("folder", path, err)
		}
		var found string
		switch {
		case dir.Mode&unix.S_IFMT != unix.S_IFDIR:
			found = "what is not a directory"
		case !trusted(dir.Uid):
			found = "a folder of uid " + strconv.Itoa(int(dir.Uid))
		case dir.Mode&0o022 != 0:
			found = "a folder that others may write (mode " + octal(uint32(dir.Mode)) + ")"
		default:
			return nil
		}
		return &Error{Code: CodeDenied, Message: "the socket is in " + found + ": " + quotePath(path)}
	}
	if err := checkFolder(SocketDir(path)); errors.Is(err, ErrNoAgent) {
		return noAgent(path)
	} else if err != nil {
		return err
	}
	_, sock, err := follow(path, trusted, checkFolder)
	if err != nil {
		return err
	}
	var found string
	switch {
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
	return ignoringEINTR(func() error { return unix.Lstat(path, st) })
}

func ignoringEINTR(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
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
