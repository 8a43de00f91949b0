package agent

import (
	"log/slog"
	"sync"
	"time"
)

// What peers can bring about at will must not fill the log: of one kind and user, so many lines are written in a while, and then
// how many more there were.
const (
	repeatsShown = 3
	repeatsTime  = time.Minute
	repeatsKept  = 64 // kinds and users that are told apart
)

// repeats writes lines of which there may be any number. The zero value is ready. It may be used concurrently.
type repeats struct {
	mu   sync.Mutex
	seen map[repeat]int // lines in this while
}

type repeat struct {
	message string
	uid     int64 // nobody: no user in particular
}

// nobody is a line's user where there is none, or no room to tell more of them apart.
const nobody int64 = -1

// attrs are what a line of that kind says of its user.
func (key repeat) attrs(more ...any) []any {
	if key.uid == nobody {
		return more
	}
	return append([]any{"uid", key.uid}, more...)
}

// warn logs message, or counts it. uid is the peer's, or nobody.
func (r *repeats) warn(log *slog.Logger, message string, uid int64, args ...any) {
	from := repeat{message, uid}
	key := from
	r.mu.Lock()
	if _, known := r.seen[key]; !known && len(r.seen) >= repeatsKept {
		key.uid = nobody
	}
	if r.seen == nil {
		r.seen = map[repeat]int{}
	}
	r.seen[key]++
	n := r.seen[key]
	r.mu.Unlock()
	if n == 1 {
		time.AfterFunc(repeatsTime, func() { r.sum(log, key) })
	}
	if n <= repeatsShown {
		log.Warn(message, from.attrs(args...)...)
	}
}

// sum ends a while.
func (r *repeats) sum(log *slog.Logger, key repeat) {
	r.mu.Lock()
	n := r.seen[key] - repeatsShown
	delete(r.seen, key)
	r.mu.Unlock()
	if n > 0 {
		log.Warn(key.message, key.attrs("more", n)...)
	}
}
