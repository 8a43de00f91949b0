package httpauth

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
)

const (
	// maxRecorded bounds how much of one request's body is kept, and maxAllRecorded how much a Transport keeps of all, in bytes.
	maxRecorded, maxAllRecorded = 1 << 20, 64 << 20
)

var errDetached = errors.New("the request is sent again")

// recording is the body of a request, which is kept while it is sent so that it can be sent again. What was not read yet when the
// server refused the token is read by the second sending.
type recording struct {
	body io.ReadCloser
	all  *atomic.Int64 // what the Transport keeps

	reading sync.Mutex // held across a read of body, which may block

	mu       sync.Mutex // guards the fields below; reading may be held when it is taken, not the other way round
	kept     []byte
	lost     bool // not all that was read is in kept
	settled  bool // it is not sent again
	repeated bool // the second sending has begun
	closed   bool // the first sending has closed it
	end      error
}

// first returns the body for the first sending.
func (r *recording) first() io.ReadCloser { return &sending{recording: r} }

// whole reports whether all that was read is kept.
func (r *recording) whole() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.lost
}

// again returns the body for the second sending, nil if too much of it was read to be kept. From then on the first sending reads
// nothing.
func (r *recording) again() io.ReadCloser {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lost {
		return nil
	}
	r.repeated = true
	return &sending{recording: r, second: true}
}

// sending is the body of a recording as one sending reads it.
type sending struct {
	*recording
	second bool
	at     int // in kept
	done   atomic.Bool
}

func (s *sending) Read(p []byte) (int, error) {
	if n, err, ok := s.replay(p); ok {
		return n, err
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	if n, err, ok := s.replay(p); ok { // the first sending has read it meanwhile
		return n, err
	}
	n, err := s.body.Read(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.end = err
	}
	if !s.second {
		s.keep(p[:n])
		s.at += n
	}
	return n, err
}

// replay reads what is kept. It returns false where the body itself has to be read.
func (s *sending) replay(p []byte) (n int, err error, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.done.Load() || !s.second && s.repeated:
		return 0, errDetached, true
	case s.second && s.at < len(s.kept):
		n = copy(p, s.kept[s.at:])
		s.at += n
		return n, nil, true
	case s.end != nil:
		return 0, s.end, true
	}
	return 0, nil, false
}

// keep notes what the first sending has read. The caller holds r.mu.
func (r *recording) keep(p []byte) {
	if r.lost {
		return
	}
	// What was read while the second sending began must be kept in any case.
	if over := len(r.kept)+len(p) > maxRecorded || r.all.Load()+int64(len(p)) > maxAllRecorded; over && !r.repeated {
		r.forget()
		return
	}
	r.all.Add(int64(len(p)))
	r.kept = append(r.kept, p...)
}

// forget gives the memory back. The caller holds r.mu.
func (r *recording) forget() {
	r.all.Add(-int64(len(r.kept)))
	r.kept, r.lost = nil, true
}

// settle says that the first sending is over or will be the only one. The second sending, once it has begun, goes on.
func (r *recording) settle() {
	r.mu.Lock()
	if r.repeated {
		r.mu.Unlock()
		return
	}
	r.forget()
	r.settled = true
	closed := r.closed
	r.mu.Unlock()
	switch {
	case !closed:
	case r.reading.TryLock():
		r.reading.Unlock()
		r.body.Close()
	default:
		go r.body.Close() // it may have to wait for the read that is under way
	}
}

// Close ends a sending. The body itself stays open while it may be sent again.
func (s *sending) Close() error {
	if s.done.Swap(true) {
		return nil
	}
	s.mu.Lock()
	if s.second {
		s.forget()
	} else {
		s.closed = true
	}
	over := s.second || s.settled
	s.mu.Unlock()
	if over {
		return s.body.Close()
	}
	return nil
}
