package store

import (
	"encoding/json"
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/process"
	"github.com/ccagent/ccagent/store/splice"
)

// owner is the content of `.oauth_refresh.lock.owner`.
type owner struct {
	PID         int     `json:"pid"`
	ProcStart   string  `json:"procStart"`             // clock ticks since boot
	PIDDomain   string  `json:"pidDomain"`             // machine and pid name space
	PIDSpace    string  `json:"pidSpace"`              // host name and pid name space
	Birth       float64 `json:"lockBirthtimeMs"`       // of `.oauth_refresh.lock`
	LegacyBirth float64 `json:"legacyLockBirthtimeMs"` // of `<config dir>.lock`
}

// dead reports whether o is known to be dead, and to be the owner of the open lock directory held. noted is the time at which
// that directory was made, as o has written it, in milliseconds.
func (o owner) dead(held *os.File, noted float64) bool {
	birth, ok := birthtime(held)
	return ok && birth-noted <= 1 && noted-birth <= 1 && o.gone()
}

// gone reports whether the process of o is known to have ended. Of a process on another machine or in another container nothing
// is known.
func (o owner) gone() bool {
	me, known := self()
	if !known || o.PID <= 0 || o.PIDDomain != me.PIDDomain || o.PIDSpace != me.PIDSpace {
		return false
	}
	if errors.Is(unix.Kill(o.PID, 0), unix.ESRCH) {
		return true
	}
	p, ok := process.Of(int32(o.PID))
	return ok && procStart(p) != o.ProcStart
}

// procStart is when a process started, as Claude Code writes it.
func procStart(p process.Info) string { return strconv.FormatUint(p.Start, 10) }

// signed is the extended attribute that says which process holds a write lock of ours, so that it can be taken over at once if
// that process was killed. Claude Code writes nothing of the kind: one that it left is taken over when it is abandoned.
const signed = "user.ccagent.owner"

// sign makes an open lock directory say that this process holds it. Where the file system has no extended attributes, it does
// nothing.
func sign(dir *os.File) {
	if me, ok := self(); ok {
		unix.Fsetxattr(int(dir.Fd()), signed, splice.Encode(me), 0)
	}
}

// signature is who has signed an open lock directory.
func signature(dir *os.File) (o owner, ok bool) {
	b := make([]byte, 1024)
	n, err := unix.Fgetxattr(int(dir.Fd()), signed, b)
	return o, err == nil && json.Unmarshal(b[:n], &o) == nil
}
