package main

import (
	"context"
	"time"
)

// deadline is a context that ends at a time and can't be cancelled before. A context of package context would set a timer, for
// which the runtime starts a thread and makes an epoll instance. The client passes the deadline to poll and needs neither.
type deadline struct{ at time.Time }

func (d deadline) Deadline() (time.Time, bool) { return d.at, true }
func (deadline) Done() <-chan struct{}         { return nil }
func (deadline) Value(any) any                 { return nil }

func (d deadline) Err() error {
	if time.Now().Before(d.at) {
		return nil
	}
	return context.DeadlineExceeded
}
