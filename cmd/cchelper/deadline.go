package main

import (
	"context"
	"time"
)

// deadline is a context that ends at a time and never sooner. One of package context would set a timer, for which the runtime
// starts a thread and an epoll instance; the client's poll keeps to a deadline without.
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
