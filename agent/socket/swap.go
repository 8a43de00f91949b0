package socket

import (
	"sync"
	"sync/atomic"
	"time"
)

// Swapped is a listening socket that another one can take the place of while connections are accepted. Its zero value has none
// yet: call Swap first.
type Swapped struct {
	current  atomic.Pointer[Socket]
	mu       sync.Mutex
	deadline time.Time // of the current one; guarded by mu
}

// drainOld is how long connections are accepted from a socket that another has taken the place of: they wait in its queue.
const drainOld = 20 * time.Millisecond

// Swap puts s in the place of the socket that was there. Who has connected to that one is accepted still.
func (w *Swapped) Swap(s Socket) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.deadline.IsZero() {
		s.SetReadDeadline(w.deadline)
	}
	if old := w.current.Swap(&s); old != nil {
		old.SetReadDeadline(time.Now().Add(drainOld)) // Accept closes it then
	}
}

// Accept is [Socket.Accept] of the current socket.
func (w *Swapped) Accept() (fd int, err error) {
	for {
		s := w.current.Load()
		if fd, err = s.Accept(); err == nil || w.current.Load() == s {
			return fd, err
		}
		s.Close()
	}
}

// SetReadDeadline ends the wait of Accept, also where another socket takes the place of this one.
func (w *Swapped) SetReadDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deadline = t
	return w.current.Load().SetReadDeadline(t)
}

// Close closes the socket.
func (w *Swapped) Close() error { return w.current.Load().Close() }
