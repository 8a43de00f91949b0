//go:build unix

package protocol

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// noAgent is the error where nobody listens at a path. If the path leads to the agent of another machine, or was made by a
// program that has ended since, an agent that is started here does not help, and the error says what does.
func noAgent(path string) error {
	e := &Error{
		Code:    CodeNoAgent,
		Message: "no agent is listening at " + quotePath(path),
		Hint:    "start one with `ccagent serve`, or with eval \"$(ccagent env)\"",
	}
	if path != os.Getenv("CCAGENT_SOCK") || path == defaultPath() {
		return e
	}
	const here = "\nfor an agent of this machine: unset CCAGENT_SOCK"
	place, there := leadsTo(path)
	if place != path {
		e.Message += ", a symbolic link to " + quotePath(place)
	}
	switch {
	case ofForward(place):
		e.Message += ": the session of `ccagent forward` that it belongs to has ended"
		e.Hint = "open another one from the machine that the tokens come from, as you did before: ccagent forward HOST" + here
	case there && !isThere(place+".lock"): // an agent leaves its lock file behind
		e.Message += ": whoever forwarded or exported this socket has ended"
		e.Hint = "forward it again from the machine that the tokens come from (ccagent forward, ssh -R), or export it again " +
			"(ccagent serve --export)" + here
	case os.Getenv("SSH_CONNECTION") != "":
		e.Hint = "if ssh forwarded it here, that session has ended: log in again with the forwarding (docs/remote.md)" + here
	default:
		e.Hint = "start one there with `ccagent serve`\nor unset CCAGENT_SOCK: at the default address an agent is started " +
			"when it is needed"
	}
	return e
}

// leadsTo follows links without a check of whose they are, and says whether there is a socket at their end.
func leadsTo(path string) (place string, there bool) {
	var st unix.Stat_t
	for range maxLinks {
		if lstat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
			break
		}
		to, err := target(path)
		if err != nil {
			break
		}
		path = to
	}
	return path, lstat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK
}

func isThere(path string) bool {
	var st unix.Stat_t
	return lstat(path, &st) == nil
}

// ofForward reports whether `ccagent forward` gives a session a socket at such a path.
func ofForward(path string) bool {
	rest, ours := strings.CutPrefix(path, "/tmp/ccagent-")
	if !ours {
		return false
	}
	if strings.HasPrefix(rest, "forward-") {
		return true
	}
	random, name, _ := strings.Cut(rest, "/")
	isID := strings.Trim(random, "0123456789") == "" // /tmp/ccagent-UID, the default place of a user
	return name == "agent.sock" && len(random) == 10 && !isID
}
