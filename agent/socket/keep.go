package socket

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// errTaken is the error of a place that another agent has by now.
var errTaken = errors.New("another agent has taken the socket's place")

// Keep sees to it until ctx ends that clients find this agent. If the socket, its lock file or their folder was removed or
// replaced, it makes them again; so it does in the place of a service manager, which never looks. If the default path is another
// one by now, because a login has made or removed /run/user/UID, the agent moves there. Where that can't be, because another
// agent has the place or there is none, nobody can reach this agent: Keep calls lost then, and tries again whenever it looks.
func (l *Listener) Keep(ctx context.Context, log *slog.Logger, lost func(error)) {
	Watch(ctx, l.folders, func() bool {
		before := l.Path()
		did, err := l.hold(ctx)
		if ctx.Err() != nil {
			return did
		}
		switch {
		case err != nil:
			lost(err)
		case did && l.Path() != before:
			log.Warn("the socket has moved with the default path", "from", before, "socket", l.Path(), "why", protocol.SocketReason())
		case did:
			log.Warn("the socket was taken away, and is made again", "socket", before)
		}
		return did
	})
}

// folders are those in which a change may concern the socket.
func (l *Listener) folders() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	folders := []string{filepath.Dir(l.path)}
	if l.follows {
		folders = append(folders, "/run/user")
	}
	return folders
}

// hold takes the place again if it was lost, and reports whether it had to make a socket.
func (l *Listener) hold(ctx context.Context) (did bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	path, moves := l.path, false
	if l.follows {
		if now, is, err := protocol.SocketPath(); err == nil && is {
			path, moves = now, now != l.path
		}
	}
	present := !moves && isAt(l.file, path)
	locked := !moves && hasName(l.lock, path+".lock")
	if l.retired || present && locked {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	lock := l.lock
	if !locked {
		if err := makeDir(filepath.Dir(path)); err != nil {
			return false, err
		}
		if lock, err = takeLock(ctx, path, func(*os.File) error { return errTaken }); err != nil {
			if present { // one that is about to give up, because we answer
				return false, nil
			}
			return false, err
		}
	}
	oldPath, oldFile, oldLock := l.path, l.file, l.lock
	l.path = path
	if !present {
		if err := l.bind(ctx); err != nil {
			l.path = oldPath
			switch {
			case !locked && moves:
				lock.Close()
			case !locked:
				oldLock.Close()
				l.lock = lock
			}
			return false, err
		}
	}
	if !locked {
		oldLock.Close()
		l.lock = lock
	}
	if moves && isAt(oldFile, oldPath) {
		os.Remove(oldPath)
	}
	return !present, nil
}
