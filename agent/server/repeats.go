package server

import (
	"log/slog"
	"sync"
	"time"
)

// Peers can bring some log lines about as often as they like, and must not fill the log with them. Of each kind and user, a few
// lines are written in a minute, and at its end how many more there were.
const (
	repeatsShown = 3
	repeatsTime  = time.Minute
	repeatsKinds = 64 // kinds and users that are told apart
)

// repeats writes lines of which there may be any number. The zero value is ready. It may be used concurrently.
type repeats struct {
	mu    sync.Mutex
	lines map[repeat]int // in this minute
}

type repeat struct {
	message string
	uid     int64 // noUser: no user in particular
}

// noUser is the user of a line that is about none, or about one of too many to tell apart.
const noUser int64 = -1

// attrs adds the user to what a line says.
func (key repeat) attrs(more ...any) []any {
	if key.uid == noUser {
		return more
	}
	return append([]any{"uid", key.uid}, more...)
}

// warn logs message, or counts it. uid is the peer's, or noUser.
func (r *repeats) warn(log *slog.Logger, message string, uid int64, args ...any) {
	from := repeat{message, uid}
	key := from
	r.mu.Lock()
	if _, known := r.lines[key]; !known && len(r.lines) >= repeatsKinds {
		key.uid = noUser
	}
	if r.lines == nil {
		r.lines = map[repeat]int{}
	}
	r.lines[key]++
	n := r.lines[key]
	r.mu.Unlock()
	if n == 1 {
		time.AfterFunc(repeatsTime, func() { r.sumUp(log, key) })
	}
	if n <= repeatsShown {
		log.Warn(message, from.attrs(args...)...)
	}
}

// sumUp logs how many lines of a minute were not written.
func (r *repeats) sumUp(log *slog.Logger, key repeat) {
	r.mu.Lock()
	n := r.lines[key] - repeatsShown
	delete(r.lines, key)
	r.mu.Unlock()
	if n > 0 {
		log.Warn(key.message, key.attrs("more", n)...)
	}
}
